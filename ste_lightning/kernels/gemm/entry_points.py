"""Products at a site, as compiled code: packed inputs (or floats) in, floats or bits out.

There are three ways to read inputs: ``lookup``, ``gathered`` and ``rows``; each has functions of
ranges of rows and of panels, so that threads can share the work, one that packs as well, and one
that also computes the float layers after it.
"""

from __future__ import annotations

import numpy as np

from ste_lightning.kernels.epilogue.float_head_loops import finish_all
from ste_lightning.kernels.gemm.lut import multiply_lookup
from ste_lightning.kernels.gemm.popcount import multiply, multiply_gathered
from ste_lightning.kernels.jit.arrays import empty
from ste_lightning.kernels.jit.c_functions import (
    BYTES,
    FLAG,
    FLOATS,
    INTEGERS,
    SIZE,
    SUMS,
    on_demand,
)
from ste_lightning.kernels.jit.compiling import nested
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
from ste_lightning.kernels.pack.input_images import packed

__all__ = [
    *("by_gathering", "by_lookup", "by_rows"),
    *("gathered_bits", "gathered_finished", "gathered_floats", "gathered_once"),
    *("lookup_bits", "lookup_finished", "lookup_floats", "lookup_once"),
    *("rows_bits", "rows_finished", "rows_floats", "rows_once"),
]

_POSITIONS, _PIXELS, _IMAGE = (NUMBERS[name] for name in ("positions", "pixels", "image"))
_PANELS, _COLUMNS, _SCALE, _SHIFT = (ARRAYS[n] for n in ("panels", "columns", "scale", "shift"))
_INDEX, _BORDER = ARRAYS["index"], ARRAYS["border"]
_STARTS, _OFFSETS, _SIZES = (ARRAYS[name] for name in ("starts", "offsets", "sizes"))

_TO_FLOATS = (INTEGERS, BYTES, SIZE, SUMS, FLOATS, SIZE, SIZE, SIZE, SIZE)
_TO_BITS = (INTEGERS, BYTES, SIZE, SUMS, BYTES, SIZE, SIZE, SIZE, SIZE)
_AT_ONCE = (INTEGERS, FLOATS, FLAG, FLOATS, FLOATS, SIZE, FLOATS, SIZE)


@nested
def by_lookup(record, bits, plane, sums, out, first, last, begin, end):  # type: ignore[no-untyped-def]
    """Multiply rows that lie in padded images, by look-ups."""
    multiply_lookup(
        *(record, bits, plane, sums, integers_of(record, _STARTS), record[_IMAGE]),
        *(integers_of(record, _OFFSETS), integers_of(record, _SIZES), record[_PIXELS]),
        *(words_of(record, _INDEX), integers_of(record, _BORDER)),
        *(bytes_of(record, _PANELS), words_of(record, _COLUMNS), extra_of(record, out)),
        *(floats_of(record, _SCALE), floats_of(record, _SHIFT), out, first, last, begin, end),
    )


@nested
def by_gathering(record, bits, plane, sums, out, first, last, begin, end):  # type: ignore[no-untyped-def]
    """Multiply rows that are gathered pixel by pixel; all panels."""
    multiply_gathered(
        *(record, bits, plane, sums, record[_PIXELS], words_of(record, _INDEX)),
        *(integers_of(record, _BORDER), record[_POSITIONS]),
        *(bytes_of(record, _PANELS), words_of(record, _COLUMNS), extra_of(record, out)),
        *(floats_of(record, _SCALE), floats_of(record, _SHIFT), out, first, last),
    )


@nested
def by_rows(record, bits, plane, sums, out, first, last, begin, end):  # type: ignore[no-untyped-def]
    """Multiply rows as they are."""
    multiply(
        *(record, bits, plane, sums, bytes_of(record, _PANELS), words_of(record, _COLUMNS)),
        *(extra_of(record, out), floats_of(record, _SCALE), floats_of(record, _SHIFT)),
        *(out, first, last, begin, end),
    )


@on_demand(*_TO_FLOATS)
def lookup_floats(record, bits, plane, sums, out, first, last, begin, end):  # type: ignore[no-untyped-def]
    """Write floats of rows ``first`` to ``last`` and panels ``begin`` to ``end``.

    ``bits`` are packed images, ``plane`` bytes from one plane of bits to the next, and ``sums``
    the codes' sums, which are read only where the plan has a slope for them.
    """
    given = (record_at(record), opened(bits), plane, opened(sums), opened(out))
    by_lookup(*given, first, last, begin, end)


@on_demand(*_TO_BITS)
def lookup_bits(record, bits, plane, sums, out, first, last, begin, end):  # type: ignore[no-untyped-def]
    """As :func:`lookup_floats`, with bits as results: whole bytes per row."""
    given = (record_at(record), opened(bits), plane, opened(sums), opened(out))
    by_lookup(*given, first, last, begin, end)


@on_demand(*_TO_FLOATS)
def gathered_floats(record, bits, plane, sums, out, first, last, begin, end):  # type: ignore[no-untyped-def]
    """As :func:`lookup_floats`, for the formats that gather pixels; all panels."""
    given = (record_at(record), opened(bits), plane, opened(sums), opened(out))
    by_gathering(*given, first, last, begin, end)


@on_demand(*_TO_BITS)
def gathered_bits(record, bits, plane, sums, out, first, last, begin, end):  # type: ignore[no-untyped-def]
    """As :func:`lookup_bits`, for the formats that gather pixels; all panels."""
    given = (record_at(record), opened(bits), plane, opened(sums), opened(out))
    by_gathering(*given, first, last, begin, end)


@on_demand(*_TO_FLOATS)
def rows_floats(record, bits, plane, sums, out, first, last, begin, end):  # type: ignore[no-untyped-def]
    """As :func:`lookup_floats`, for rows of the other formats; reads seven rows past the last."""
    given = (record_at(record), opened(bits), plane, opened(sums), opened(out))
    by_rows(*given, first, last, begin, end)


@on_demand(*_TO_BITS)
def rows_bits(record, bits, plane, sums, out, first, last, begin, end):  # type: ignore[no-untyped-def]
    """As :func:`rows_floats`, with bits as results."""
    given = (record_at(record), opened(bits), plane, opened(sums), opened(out))
    by_rows(*given, first, last, begin, end)


@nested
def _lookup_all(record, bits, sums, out, images):  # type: ignore[no-untyped-def]
    rows, panels = images * record[_POSITIONS], (record[4] + 63) // 64
    by_lookup(record, bits, 0, sums, out, 0, rows, 0, panels)


@nested
def _gathered_all(record, bits, sums, out, images):  # type: ignore[no-untyped-def]
    by_gathering(record, bits, 0, sums, out, 0, images * record[_POSITIONS], 0, 0)


@nested
def _rows_all(record, bits, sums, out, images):  # type: ignore[no-untyped-def]
    width = 32 if record[0] == 2 else 64
    by_rows(record, bits, 0, sums, out, 0, images, 0, (record[4] + width - 1) // width)


@on_demand(*_AT_ONCE)
def lookup_once(record_, x, planar, scale, shift, thresholds, out, images):  # type: ignore[no-untyped-def]
    """Pack and multiply in one call: floats in, as in :func:`.pack_floats`, and floats out."""
    record = record_at(record_)
    bits, sums = packed(record, opened(x), planar, scale, shift, thresholds, images)
    _lookup_all(record, bits, sums, opened(out), images)


@on_demand(*_AT_ONCE)
def gathered_once(record_, x, planar, scale, shift, thresholds, out, images):  # type: ignore[no-untyped-def]
    """As :func:`lookup_once`, for the formats that gather pixels."""
    record = record_at(record_)
    bits, sums = packed(record, opened(x), planar, scale, shift, thresholds, images)
    _gathered_all(record, bits, sums, opened(out), images)


@on_demand(*_AT_ONCE)
def rows_once(record_, x, planar, scale, shift, thresholds, out, images):  # type: ignore[no-untyped-def]
    """As :func:`lookup_once`, for rows of the other formats."""
    record = record_at(record_)
    bits, sums = packed(record, opened(x), planar, scale, shift, thresholds, images)
    _rows_all(record, bits, sums, opened(out), images)


@on_demand(*_AT_ONCE, INTEGERS)
def lookup_finished(record_, x, planar, scale, shift, thresholds, out, images, tail):  # type: ignore[no-untyped-def]
    """As :func:`lookup_once`, and what follows it: as :class:`.tail.Tail` says."""
    record = record_at(record_)
    bits, sums = packed(record, opened(x), planar, scale, shift, thresholds, images)
    y = empty(images * record[_POSITIONS] * record[17], np.float32)
    _lookup_all(record, bits, sums, y, images)
    finish_all(tail, y, images, opened(out))


@on_demand(*_AT_ONCE, INTEGERS)
def gathered_finished(record_, x, planar, scale, shift, thresholds, out, images, tail):  # type: ignore[no-untyped-def]
    """As :func:`gathered_once`, and what follows it."""
    record = record_at(record_)
    bits, sums = packed(record, opened(x), planar, scale, shift, thresholds, images)
    y = empty(images * record[_POSITIONS] * record[17], np.float32)
    _gathered_all(record, bits, sums, y, images)
    finish_all(tail, y, images, opened(out))


@on_demand(*_AT_ONCE, INTEGERS)
def rows_finished(record_, x, planar, scale, shift, thresholds, out, images, tail):  # type: ignore[no-untyped-def]
    """As :func:`rows_once`, and what follows it."""
    record = record_at(record_)
    bits, sums = packed(record, opened(x), planar, scale, shift, thresholds, images)
    y = empty(images * record[_POSITIONS] * record[17], np.float32)
    _rows_all(record, bits, sums, y, images)
    finish_all(tail, y, images, opened(out))
