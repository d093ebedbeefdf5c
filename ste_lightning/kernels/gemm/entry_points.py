"""Products at a site, as compiled code: packed inputs (or floats) in; floats, bits or codes out.

There are three ways to read inputs: ``lookup``, ``gathered`` and ``rows``; each has functions of
ranges of rows and of panels, so that threads can share the work; those that count bits have one
that packs as well, and one that also computes the float layers after it.
"""

from __future__ import annotations

import numpy as np

from ste_lightning.kernels.epilogue.float_head_loops import finish_all
from ste_lightning.kernels.gemm import int8, vnni
from ste_lightning.kernels.gemm.lut import multiply_lookup
from ste_lightning.kernels.gemm.popcount import multiply, multiply_gathered
from ste_lightning.kernels.jit.arrays import empty
from ste_lightning.kernels.jit.c_functions import FLAG, FLOATS, INTEGERS, SIZE, on_demand
from ste_lightning.kernels.jit.compiling import nested
from ste_lightning.kernels.layout.call_record import ARRAYS, NUMBERS
from ste_lightning.kernels.layout.plan import PLAN_FORMAT, PLAN_OUTPUTS, PLAN_PITCH
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
    *("gathered", "gathered_digits", "gathered_dot", "gathered_finished", "gathered_once"),
    *("lookup", "lookup_finished", "lookup_once"),
    *("rows", "rows_dot", "rows_finished", "rows_of_digits", "rows_once"),
]

_POSITIONS, _PIXELS, _IMAGE = (NUMBERS[name] for name in ("positions", "pixels", "image"))
_PANELS, _COLUMNS, _SCALE, _SHIFT = (ARRAYS[n] for n in ("panels", "columns", "scale", "shift"))
_INDEX, _BORDER = ARRAYS["index"], ARRAYS["border"]
_STARTS, _OFFSETS, _SIZES = (ARRAYS[name] for name in ("starts", "offsets", "sizes"))

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


@nested
def _by_gathering_digits(record, bits, plane, sums, out, first, last, begin, end):  # type: ignore[no-untyped-def]
    """Sum products of rows that are gathered pixel by pixel; all panels."""
    int8.multiply_gathered(
        *(record, bits, plane, sums, record[_PIXELS], words_of(record, _INDEX)),
        *(integers_of(record, _BORDER), record[_POSITIONS]),
        *(bytes_of(record, _PANELS), words_of(record, _COLUMNS), extra_of(record, out)),
        *(floats_of(record, _SCALE), floats_of(record, _SHIFT), out, first, last),
    )


@nested
def _by_rows_of_digits(record, bits, plane, sums, out, first, last, begin, end):  # type: ignore[no-untyped-def]
    """Sum products of rows as they are."""
    int8.multiply(
        *(record, bits, plane, sums, bytes_of(record, _PANELS), words_of(record, _COLUMNS)),
        *(extra_of(record, out), floats_of(record, _SCALE), floats_of(record, _SHIFT)),
        *(out, first, last, begin, end),
    )


# Bodies of the functions that :mod:`.entries` compiles for results of each type. They write rows
# ``first`` to ``last`` and panels ``begin`` to ``end``: floats, bits (whole bytes a row) or codes.
# ``bits`` are packed images, ``plane`` bytes from one plane of bits to the next, and ``sums`` the
# codes' sums, which are read only where the plan has a slope for them.


def lookup(record, bits, plane, sums, out, first, last, begin, end):  # type: ignore[no-untyped-def]
    """Count bits by look-ups."""
    given = (record_at(record), opened(bits), plane, opened(sums), opened(out))
    by_lookup(*given, first, last, begin, end)


def gathered(record, bits, plane, sums, out, first, last, begin, end):  # type: ignore[no-untyped-def]
    """Count bits of gathered pixels; all panels."""
    given = (record_at(record), opened(bits), plane, opened(sums), opened(out))
    by_gathering(*given, first, last, begin, end)


def rows(record, bits, plane, sums, out, first, last, begin, end):  # type: ignore[no-untyped-def]
    """Count bits of rows; reads seven rows past the last."""
    given = (record_at(record), opened(bits), plane, opened(sums), opened(out))
    by_rows(*given, first, last, begin, end)


def gathered_digits(record, bits, plane, sums, out, first, last, begin, end):  # type: ignore[no-untyped-def]
    """Sum products of gathered pixels; all panels."""
    given = (record_at(record), opened(bits), plane, opened(sums), opened(out))
    _by_gathering_digits(*given, first, last, begin, end)


def rows_of_digits(record, bits, plane, sums, out, first, last, begin, end):  # type: ignore[no-untyped-def]
    """Sum products of rows; reads three rows past the last."""
    given = (record_at(record), opened(bits), plane, opened(sums), opened(out))
    _by_rows_of_digits(*given, first, last, begin, end)


def gathered_dot(record, bits, plane, sums, out, first, last, begin, end):  # type: ignore[no-untyped-def]
    """Multiply bytes of gathered pixels; all panels."""
    given = (record_at(record), opened(bits), plane, opened(sums), opened(out))
    vnni.by_gathering(*given, first, last)


def rows_dot(record, bits, plane, sums, out, first, last, begin, end):  # type: ignore[no-untyped-def]
    """Multiply rows of bytes."""
    given = (record_at(record), opened(bits), opened(sums), opened(out))
    vnni.by_rows(*given, first, last, begin, end)


@nested
def _lookup_all(record, bits, sums, out, images):  # type: ignore[no-untyped-def]
    rows, panels = images * record[_POSITIONS], (record[PLAN_OUTPUTS] + 63) // 64
    by_lookup(record, bits, 0, sums, out, 0, rows, 0, panels)


@nested
def _gathered_all(record, bits, sums, out, images):  # type: ignore[no-untyped-def]
    by_gathering(record, bits, 0, sums, out, 0, images * record[_POSITIONS], 0, 0)


@nested
def _rows_all(record, bits, sums, out, images):  # type: ignore[no-untyped-def]
    width = 32 if record[PLAN_FORMAT] == 2 else 64
    by_rows(record, bits, 0, sums, out, 0, images, 0, (record[PLAN_OUTPUTS] + width - 1) // width)


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
    y = empty(images * record[_POSITIONS] * record[PLAN_PITCH], np.float32)
    _lookup_all(record, bits, sums, y, images)
    finish_all(tail, y, images, opened(out))


@on_demand(*_AT_ONCE, INTEGERS)
def gathered_finished(record_, x, planar, scale, shift, thresholds, out, images, tail):  # type: ignore[no-untyped-def]
    """As :func:`gathered_once`, and what follows it."""
    record = record_at(record_)
    bits, sums = packed(record, opened(x), planar, scale, shift, thresholds, images)
    y = empty(images * record[_POSITIONS] * record[PLAN_PITCH], np.float32)
    _gathered_all(record, bits, sums, y, images)
    finish_all(tail, y, images, opened(out))


@on_demand(*_AT_ONCE, INTEGERS)
def rows_finished(record_, x, planar, scale, shift, thresholds, out, images, tail):  # type: ignore[no-untyped-def]
    """As :func:`rows_once`, and what follows it."""
    record = record_at(record_)
    bits, sums = packed(record, opened(x), planar, scale, shift, thresholds, images)
    y = empty(images * record[_POSITIONS] * record[PLAN_PITCH], np.float32)
    _rows_all(record, bits, sums, y, images)
    finish_all(tail, y, images, opened(out))
