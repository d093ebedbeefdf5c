"""Products of bytes by VPDPBUSD or tiles, as compiled code: how rows and panels are taken.

Weights are bytes (the format ``int8``), or have 1, 2 or 4 bits each (``int1``, ``int2``,
``int4``), which few rows read as they are and many decoded, a panel at a time. Where the processor
has tile registers, products of as many rows as the plan says take them.
"""

from __future__ import annotations

import numpy as np

from ste_lightning.kernels.gemm.rows import finish_rows, gather_rows
from ste_lightning.kernels.jit.arrays import empty, zeros
from ste_lightning.kernels.jit.compiling import inlined, nested
from ste_lightning.kernels.jit.simd import copy
from ste_lightning.kernels.layout.call_record import ARRAYS, NUMBERS
from ste_lightning.kernels.layout.plan import (
    PLAN_BLOCK,
    PLAN_DIGIT,
    PLAN_GROUP_BYTES,
    PLAN_GROUPS,
    PLAN_OUTPUTS,
    PLAN_PANEL_BYTES,
    PLAN_ROW_BYTES,
    PLAN_TAPS,
    PLAN_UNITS,
)
from ste_lightning.kernels.layout.read_record import (
    bytes_of,
    extra_of,
    floats_of,
    integers_of,
    words_of,
)
from ste_lightning.kernels.layout.weight_tiles import LAYOUTS, TABLES
from ste_lightning.kernels.ukernels.amx import (
    add_tiles,
    begin_tiles,
    clear_tiles,
    end_tiles,
    lay_out_16,
    write_tiles,
)
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

__all__ = ["by_gathering", "by_rows"]

_POSITIONS, _PIXELS = NUMBERS["positions"], NUMBERS["pixels"]
_PANELS, _COLUMNS, _SCALE, _SHIFT = (ARRAYS[n] for n in ("panels", "columns", "scale", "shift"))
_INDEX, _BORDER = ARRAYS["index"], ARRAYS["border"]
_WIDTH = LAYOUTS["int8"].width
_MOST = 32  # rows that a micro-kernel takes
_FEW = 4  # rows that read packed weights as they are
_BLOCK = 96  # rows, a share of the second cache, that pass over a panel together
_BLOCK_BYTES, _MOST_IN_BLOCK = 1 << 19, 512  # of rows in tile registers' layout
_PART = 128  # units of a packed panel, decoded 16 KB, of which tile registers keep the sums


@inlined
def _block(tiled, stride):  # type: ignore[no-untyped-def]
    """Return how many rows of ``stride`` bytes pass over a panel together."""
    if not tiled:
        return _BLOCK
    return min(max(_BLOCK, _BLOCK_BYTES // stride // _MOST * _MOST), _MOST_IN_BLOCK)


@inlined
def _padded(tiled, stride):  # type: ignore[no-untyped-def]
    """Return the bytes of a row in the layout of tiles."""
    return (stride + 63) // 64 * 64 if tiled else stride


@inlined
def _tile(tiled, left):  # type: ignore[no-untyped-def]
    """Return the rows of the next tile, of ``left`` ones: 12, 8, 4 or 1, or 32 or 16."""
    if tiled:
        return 32 if left > 16 else 16
    if left > 16 or 8 < left <= 12:
        return 12
    if left > 4:
        return 8
    return 4 if left > 1 else 1


@nested
def _interleave(tiled, rows, row, stride, count, tiles):  # type: ignore[no-untyped-def]
    """Write ``count`` rows from ``rows[row]`` on as tiles: four (64) bytes of each row in turn."""
    if tiled:
        for group in range(0, count, 16):
            source, to = row + group * stride, group * _padded(tiled, stride)
            lay_out_16(rows, source, stride, count - group, tiles, to)
        return
    units, tile, first = stride // 4, 0, 0
    while first < count:
        left, source = count - first, row + first * stride
        size = _tile(False, left)
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
    if size >= 16:
        clear_tiles()
        add_tiles(size, panels, panel, tiles, tile, (units + 15) // 16 * 1024, units)
        write_tiles(size, sums)
    elif size == 12:
        bytes_12(panels, panel, tiles, tile, units, sums)
    elif size == 8:
        bytes_8(panels, panel, tiles, tile, units, sums)
    elif size == 4:
        bytes_4(panels, panel, tiles, tile, units, sums)
    else:
        bytes_1(panels, panel, tiles, tile, units, sums)


@inlined
def _sum_in_parts(size, panels, panel, width, room, tiles, units, sums):  # type: ignore[no-untyped-def]
    """Write the sums of 16 or 32 rows with a packed panel, of which a part is decoded in turn."""
    group = (units + 15) // 16 * 1024
    clear_tiles()
    for start in range(0, units, _PART):
        part = min(_PART, units - start)
        decode_panel(panels, panel, 0, width, units, start, part, room)
        add_tiles(size, room, 0, tiles, start * 64, group, part)
    write_tiles(size, sums)


@inlined
def _sum_panel(width, decoded, size, panels, panel, table, room, tiles, tile, units, sums):  # type: ignore[no-untyped-def]
    """Write the sums of a tile with a panel, which may be decoded in ``room``."""
    if decoded:
        _sum_tile(size, room, 0, tiles, tile, units, sums)
    elif width == 8:
        _sum_tile(size, panels, panel, tiles, tile, units, sums)
    elif size >= 16:
        _sum_in_parts(size, panels, panel, width, room, tiles, units, sums)
    elif size == 1:
        packed_1(panels, panel, table, width, tiles, tile, units, sums)
    else:
        packed_4(panels, panel, table, width, tiles, tile, units, sums)


@nested
def by_rows(record, bits, sums, out, first, last, begin, end):  # type: ignore[no-untyped-def]
    """Multiply rows as they are."""
    outputs, stride, units, width = (
        record[PLAN_OUTPUTS],
        record[PLAN_ROW_BYTES],
        record[PLAN_UNITS],
        record[PLAN_DIGIT],
    )
    panels, columns = bytes_of(record, _PANELS), words_of(record, _COLUMNS)
    extra, scale, shift = (
        extra_of(record, out),
        floats_of(record, _SCALE),
        floats_of(record, _SHIFT),
    )
    none, index, border = empty(0, np.uint16), zeros(1, np.int32), zeros(1, np.int64)
    part = empty(_MOST * _WIDTH, np.int32)
    rows = last - first
    alone, tiled, packed = rows == 1, rows >= record[PLAN_BLOCK], width < 8
    decode = packed and rows > (_MOST if tiled else _FEW)
    head = TABLES if packed else 0
    room = empty(128 * ((units if decode else _PART) + 16) if packed else 0, np.uint8)
    in_block, padded = min(_block(tiled, stride), max(rows, 1)), _padded(tiled, stride)
    tiles = bits if alone else empty((in_block + _MOST) * padded + 64, np.uint8)
    if tiled:
        begin_tiles()
    for block in range(first, last, in_block):
        count = min(in_block, last - block)
        if not alone:
            _interleave(tiled, bits, block * stride, stride, count, tiles)
        for p in range(begin, end):
            column, panel = p * _WIDTH, head + p * record[PLAN_PANEL_BYTES]
            if decode:
                decode_panel(panels, panel, 0, width, units, 0, units, room)
            m, tile = 0, block * stride if alone else 0
            while m < count:
                size = _tile(tiled, count - m)
                _sum_panel(width, decode, size, panels, panel, 0, room, tiles, tile, units, part)
                finish_rows(
                    *(record, False, none, part, _WIDTH, sums, 1, index, border, 1, columns, extra),
                    *(scale, shift, out, block + m, min(size, count - m), 0, column),
                    min(_WIDTH, outputs - column),
                )
                m += size
                tile += size * padded
    if tiled:
        end_tiles()


@nested
def by_gathering(record, bits, plane, sums, out, first, last):  # type: ignore[no-untyped-def]
    """Convolve: rows are gathered pixel by pixel; all panels."""
    groups, outputs, units, width = (
        record[PLAN_GROUPS],
        record[PLAN_OUTPUTS],
        record[PLAN_UNITS],
        record[PLAN_DIGIT],
    )
    pixels, positions = record[_PIXELS], record[_POSITIONS]
    index, border = words_of(record, _INDEX), integers_of(record, _BORDER)
    panels, columns = bytes_of(record, _PANELS), words_of(record, _COLUMNS)
    extra, scale, shift = (
        extra_of(record, out),
        floats_of(record, _SCALE),
        floats_of(record, _SHIFT),
    )
    none, stride = empty(0, np.uint16), record[PLAN_TAPS] * record[PLAN_ROW_BYTES]
    part = empty(_MOST * _WIDTH, np.int32)
    tiled = last - first >= record[PLAN_BLOCK]
    most, padded = min(_block(tiled, stride), max(last - first, 1)), _padded(tiled, stride)
    rows = zeros(most * stride + 64, np.uint8)
    tiles = empty((most + _MOST) * padded + 64, np.uint8)
    packed = width < 8
    head = TABLES if packed else 0
    room = empty(128 * (units + 16) if packed else 0, np.uint8)
    if tiled:
        begin_tiles()
    for block in range(first, last, most):
        count = min(most, last - block)
        for group in range(groups):
            gather_rows(
                *(record, bits, plane, pixels, index, positions, group, block, count),
                *(rows, most * stride),
            )
            _interleave(tiled, rows, 0, stride, count, tiles)
            for n in range(0, outputs, _WIDTH):
                table = group * record[PLAN_GROUP_BYTES]
                panel = head + table + n // _WIDTH * record[PLAN_PANEL_BYTES]
                if packed:
                    decode_panel(panels, panel, table, width, units, 0, units, room)
                m, tile = 0, 0
                while m < count:
                    size = _tile(tiled, count - m)
                    _sum_panel(
                        width, packed, size, panels, panel, table, room, tiles, tile, units, part
                    )
                    finish_rows(
                        *(record, False, none, part, _WIDTH, sums, pixels, index, border),
                        *(positions, columns, extra, scale, shift, out, block + m),
                        *(min(size, count - m), group, group * outputs + n),
                        min(_WIDTH, outputs - n),
                    )
                    m += size
                    tile += size * padded
    if tiled:
        end_tiles()
