"""Products of bytes by VPDPBUSD, as compiled code: how rows and panels are taken, entry points.

Weights are bytes (the format ``int8``), or have 1, 2 or 4 bits each (``int1``, ``int2``,
``int4``), which few rows read as they are and many decoded, a panel at a time.
"""

from __future__ import annotations

import numpy as np

from ste_lightning.kernels.gemm.rows import finish_rows, gather_rows
from ste_lightning.kernels.jit.arrays import as_int8, empty, zeros
from ste_lightning.kernels.jit.c_functions import BYTES, FLOATS, INTEGERS, SIZE, SUMS, on_demand
from ste_lightning.kernels.jit.compiling import inlined, nested
from ste_lightning.kernels.jit.simd import copy
from ste_lightning.kernels.layout.call_record import ARRAYS, NUMBERS
from ste_lightning.kernels.layout.read_record import (
    bytes_of,
    extra_of,
    floats_of,
    integers_of,
    opened,
    record_at,
    words_of,
)
from ste_lightning.kernels.layout.weight_tiles import LAYOUTS, TABLES
from ste_lightning.kernels.ukernels.vnni import (
    bytes_1,
    bytes_4,
    bytes_8,
    bytes_12,
    decode_panel,
    interleave_4,
    interleave_8,
    interleave_12,
    packed_1,
    packed_4,
)

__all__ = ["gathered_codes", "gathered_floats", "rows_codes", "rows_floats"]

_POSITIONS, _PIXELS = NUMBERS["positions"], NUMBERS["pixels"]
_PANELS, _COLUMNS, _SCALE, _SHIFT = (ARRAYS[n] for n in ("panels", "columns", "scale", "shift"))
_INDEX, _BORDER = ARRAYS["index"], ARRAYS["border"]
_WIDTH = LAYOUTS["int8"].width
_TILE = 12  # rows that a micro-kernel takes
_FEW = 4  # rows that read packed weights as they are
_BLOCK = 8 * _TILE  # rows, a share of the second cache, that pass over a panel together


@inlined
def _tile(left):  # type: ignore[no-untyped-def]
    """Return the rows of the next tile, of ``left`` ones: 12, 8, 4 or 1."""
    if left > 16 or 8 < left <= 12:
        return 12
    if left > 4:
        return 8
    return 4 if left > 1 else 1


@nested
def _interleave(rows, row, stride, count, tiles):  # type: ignore[no-untyped-def]
    """Write ``count`` rows from ``rows[row]`` on as tiles: four bytes of each row in turn."""
    units, tile, first = stride // 4, 0, 0
    while first < count:
        left, source = count - first, row + first * stride
        size = _tile(left)
        if size == 12:
            interleave_12(rows, source, stride, left, units, tiles, tile)
        elif size == 8:
            interleave_8(rows, source, stride, left, units, tiles, tile)
        elif size == 4:
            interleave_4(rows, source, stride, left, units, tiles, tile)
        else:
            copy(rows, source, tiles, tile, stride)
        tile += size * stride
        first += size


@inlined
def _sum_tile(size, panels, panel, tiles, tile, units, sums):  # type: ignore[no-untyped-def]
    """Write the sums of a tile of ``size`` rows."""
    if size == 12:
        bytes_12(panels, panel, tiles, tile, units, sums)
    elif size == 8:
        bytes_8(panels, panel, tiles, tile, units, sums)
    elif size == 4:
        bytes_4(panels, panel, tiles, tile, units, sums)
    else:
        bytes_1(panels, panel, tiles, tile, units, sums)


@inlined
def _sum_panel(width, few, size, panels, panel, table, room, tiles, tile, units, sums):  # type: ignore[no-untyped-def]
    """Write the sums of a tile with a panel, which is decoded in ``room`` unless ``few``."""
    if width == 8:
        _sum_tile(size, panels, panel, tiles, tile, units, sums)
    elif not few:
        _sum_tile(size, room, 0, tiles, tile, units, sums)
    elif size == 1:
        packed_1(panels, panel, table, width, tiles, tile, units, sums)
    else:
        packed_4(panels, panel, table, width, tiles, tile, units, sums)


@nested
def _by_rows(record, bits, sums, out, first, last, begin, end):  # type: ignore[no-untyped-def]
    """Multiply rows as they are."""
    outputs, stride, units, width = record[4], record[7], record[8], record[15]
    panels, columns = bytes_of(record, _PANELS), words_of(record, _COLUMNS)
    extra, scale, shift = (
        extra_of(record, out),
        floats_of(record, _SCALE),
        floats_of(record, _SHIFT),
    )
    none, index, border = empty(0, np.uint16), zeros(1, np.int32), zeros(1, np.int64)
    part = empty(_TILE * _WIDTH, np.int32)
    packed, few = width < 8, last - first <= _FEW
    head = TABLES if packed else 0
    room = empty(128 * (units + 8) if packed and not few else 0, np.uint8)
    alone = last - first == 1
    tiles = bits if alone else empty((min(_BLOCK, last - first) + _TILE) * stride + 64, np.uint8)
    for block in range(first, last, _BLOCK):
        count = min(_BLOCK, last - block)
        if not alone:
            _interleave(bits, block * stride, stride, count, tiles)
        for p in range(begin, end):
            column, panel = p * _WIDTH, head + p * record[16]
            if packed and not few:
                decode_panel(panels, panel, 0, width, units, room)
            m, tile = 0, block * stride if alone else 0
            while m < count:
                size = _tile(count - m)
                _sum_panel(width, few, size, panels, panel, 0, room, tiles, tile, units, part)
                finish_rows(
                    *(record, False, none, part, _WIDTH, sums, 1, index, border, 1, columns, extra),
                    *(scale, shift, out, block + m, min(size, count - m), 0, column),
                    min(_WIDTH, outputs - column),
                )
                m += size
                tile += size * stride


@nested
def _by_gathering(record, bits, plane, sums, out, first, last):  # type: ignore[no-untyped-def]
    """Convolve: rows are gathered pixel by pixel; all panels."""
    groups, outputs, units, width = record[3], record[4], record[8], record[15]
    pixels, positions = record[_PIXELS], record[_POSITIONS]
    index, border = words_of(record, _INDEX), integers_of(record, _BORDER)
    panels, columns = bytes_of(record, _PANELS), words_of(record, _COLUMNS)
    extra, scale, shift = (
        extra_of(record, out),
        floats_of(record, _SCALE),
        floats_of(record, _SHIFT),
    )
    none, stride = empty(0, np.uint16), record[5] * record[7]
    part = empty(_TILE * _WIDTH, np.int32)
    most = min(_BLOCK, last - first)
    rows = zeros(most * stride + 64, np.uint8)
    tiles = empty((most + _TILE) * stride + 64, np.uint8)
    packed = width < 8
    head = TABLES if packed else 0
    room = empty(128 * (units + 8) if packed else 0, np.uint8)
    for block in range(first, last, _BLOCK):
        count = min(_BLOCK, last - block)
        for group in range(groups):
            gather_rows(
                *(record, bits, plane, pixels, index, positions, group, block, count),
                *(rows, most * stride),
            )
            _interleave(rows, 0, stride, count, tiles)
            for n in range(0, outputs, _WIDTH):
                table = group * record[10]
                panel = head + table + n // _WIDTH * record[16]
                if packed:
                    decode_panel(panels, panel, table, width, units, room)
                m, tile = 0, 0
                while m < count:
                    size = _tile(count - m)
                    _sum_panel(
                        width, False, size, panels, panel, table, room, tiles, tile, units, part
                    )
                    finish_rows(
                        *(record, False, none, part, _WIDTH, sums, pixels, index, border),
                        *(positions, columns, extra, scale, shift, out, block + m),
                        *(min(size, count - m), group, group * outputs + n),
                        min(_WIDTH, outputs - n),
                    )
                    m += size
                    tile += size * stride


_TO_FLOATS = (INTEGERS, BYTES, SIZE, SUMS, FLOATS, SIZE, SIZE, SIZE, SIZE)
_TO_CODES = (INTEGERS, BYTES, SIZE, SUMS, BYTES, SIZE, SIZE, SIZE, SIZE)


@on_demand(*_TO_FLOATS)
def rows_floats(record, bits, plane, sums, out, first, last, begin, end):  # type: ignore[no-untyped-def]
    """Write floats of rows ``first`` to ``last`` and panels ``begin`` to ``end``.

    ``bits`` are rows of bytes, and ``sums`` the codes' sums, which are read only where the plan
    has a slope for them.
    """
    _by_rows(record_at(record), opened(bits), opened(sums), opened(out), first, last, begin, end)


@on_demand(*_TO_CODES)
def rows_codes(record, bits, plane, sums, out, first, last, begin, end):  # type: ignore[no-untyped-def]
    """As :func:`rows_floats`, with codes as results."""
    codes = as_int8(opened(out))
    _by_rows(record_at(record), opened(bits), opened(sums), codes, first, last, begin, end)


@on_demand(*_TO_FLOATS)
def gathered_floats(record, bits, plane, sums, out, first, last, begin, end):  # type: ignore[no-untyped-def]
    """As :func:`rows_floats`, of rows that are gathered pixel by pixel; all panels."""
    _by_gathering(record_at(record), opened(bits), plane, opened(sums), opened(out), first, last)


@on_demand(*_TO_CODES)
def gathered_codes(record, bits, plane, sums, out, first, last, begin, end):  # type: ignore[no-untyped-def]
    """As :func:`gathered_floats`, with codes as results."""
    codes = as_int8(opened(out))
    _by_gathering(record_at(record), opened(bits), plane, opened(sums), codes, first, last)
