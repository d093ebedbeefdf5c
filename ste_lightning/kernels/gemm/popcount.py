"""Products of packed rows with packed weights, as compiled code.

The micro-kernels count X = sum over bit planes i, j of 2^(i+j) popcount(x_i xor w_j). What a
caller gets is ``((slope X + from_row + from_column) / 2 + padding) * scale + shift`` as float32;
:mod:`.integer_codes` has the coefficients. A ``plan`` holds the integers that describe the
weights; its entries are named by ``Prepared.plan``.
"""

from __future__ import annotations

import numpy as np

from ste_lightning.kernels.gemm.rows import finish_rows, gather_rows
from ste_lightning.kernels.jit.arrays import empty, zeros
from ste_lightning.kernels.jit.compiling import inlined, nested
from ste_lightning.kernels.layout.plan import (
    PLAN_FORMAT,
    PLAN_GROUP_BYTES,
    PLAN_GROUPS,
    PLAN_INPUT_PLANES,
    PLAN_OUTPUTS,
    PLAN_PLANE_BYTES,
    PLAN_ROW_BYTES,
    PLAN_TAPS,
    PLAN_UNITS,
    PLAN_WEIGHT_PLANES,
)
from ste_lightning.kernels.ukernels.popcount import PANELS, row_of_panels, tile

__all__ = ["multiply", "multiply_gathered"]

_bytes_4 = tile("bytes", 4)
_bytes_1 = tile("bytes", 1)
_words_8 = tile("words", 8)
_words_1 = tile("words", 1)

_BLOCK = 16  # gathered rows that share one pass over the weights
_NEAR = 1 << 20  # bytes of weights that the second cache holds; from beyond, one stream is faster
_MOST_UNITS = 8000  # bytes of bits that a 16-bit sum can count


@inlined
def _rows(fmt):  # type: ignore[no-untyped-def]
    """Return how many rows the micro-kernel takes."""
    return 8 if fmt == 2 else 4


@inlined
def _count(fmt, many, panels, panel, bits, row, stride, units, s16, s32):  # type: ignore[no-untyped-def]
    """Add to the sums of one row, or of as many as the micro-kernel takes."""
    if fmt == 1:
        if many:
            _bytes_4(panels, panel, bits, row, stride, units, s16)
        else:
            _bytes_1(panels, panel, bits, row, stride, units, s16)
    elif many:
        _words_8(panels, panel, bits, row, stride, units, s32)
    else:
        _words_1(panels, panel, bits, row, stride, units, s32)


@nested
def _sum_planes(plan, count, panels, panel, bits, row, row_plane, stride, s16, s32, total):  # type: ignore[no-untyped-def]
    """Write X of ``count`` rows times one panel to ``total``, for several planes or long rows."""
    fmt, units = plan[PLAN_FORMAT], plan[PLAN_UNITS]
    width = 32 if fmt == 2 else 64
    unit = 4 if fmt == 2 else 1
    used = count * width
    total[:used] = 0
    for i in range(plan[PLAN_INPUT_PLANES]):
        for j in range(plan[PLAN_WEIGHT_PLANES]):
            start = 0
            while start < units:
                size = min(units - start, _MOST_UNITS)
                from_panel = panel + j * plan[PLAN_PLANE_BYTES] + start * width * unit
                from_row = row + i * row_plane + start * unit
                _count(
                    fmt,
                    count > 1,
                    panels,
                    from_panel,
                    bits,
                    from_row,
                    stride,
                    size,
                    s16,
                    s32,
                )
                if fmt == 2:
                    for k in range(used):
                        total[k] += s32[k] << (i + j)
                else:
                    for k in range(used):
                        total[k] += np.int32(s16[k]) << (i + j)
                start += size


@inlined
def _tile(plan, count, panels, panel, bits, row, row_plane, stride, s16, s32, total, short):  # type: ignore[no-untyped-def]
    """Count ``count`` rows times one panel; the counts are in ``s16`` if ``short``."""
    fmt, units = plan[PLAN_FORMAT], plan[PLAN_UNITS]
    if short:
        _count(fmt, count > 1, panels, panel, bits, row, stride, units, s16, s32)
    elif fmt == 2 and plan[PLAN_INPUT_PLANES] * plan[PLAN_WEIGHT_PLANES] == 1:
        _count(fmt, count > 1, panels, panel, bits, row, stride, units, s16, total)
    else:
        _sum_planes(plan, count, panels, panel, bits, row, row_plane, stride, s16, s32, total)


@nested
def multiply(  # type: ignore[no-untyped-def]
    plan,
    bits,
    row_plane,
    sums,
    panels,
    columns,
    padding,
    scale,
    shift,
    out,
    first,
    last,
    begin,
    end,
):
    """Multiply rows ``first`` to ``last`` with panels ``begin`` to ``end``.

    ``bits`` must be readable for as many rows as the micro-kernel takes after ``first``;
    ``padding`` holds a zero per output.
    """
    fmt, outputs, stride, units = (
        plan[PLAN_FORMAT],
        plan[PLAN_OUTPUTS],
        plan[PLAN_ROW_BYTES],
        plan[PLAN_UNITS],
    )
    index, border = zeros(1, np.int32), zeros(1, np.int64)
    width = 32 if fmt == 2 else 64
    step = _rows(fmt)
    unit = 4 if fmt == 2 else 1
    s16 = empty(step * width, np.uint16)
    s32 = empty(step * width, np.int32)
    total = empty(step * width, np.int32)
    short = (
        fmt < 2 and plan[PLAN_INPUT_PLANES] * plan[PLAN_WEIGHT_PLANES] == 1 and units <= _MOST_UNITS
    )
    near = (end - begin) * width * units * unit <= _NEAR
    if (
        fmt == 2
        and plan[PLAN_INPUT_PLANES] * plan[PLAN_WEIGHT_PLANES] == 1
        and last - first == 1
        and near
    ):
        whole = begin + (end - begin) // PANELS * PANELS
        for p in range(begin, whole, PANELS):
            size, column = width * units * unit, p * width
            row_of_panels(panels, p * size, size, bits, first * stride, units, total)
            finish_rows(
                *(plan, False, s16, total, PANELS * width, sums, 1, index, border, 1, columns),
                *(padding, scale, shift, out, first, 1, 0, column),
                min(PANELS * width, outputs - column),
            )
        begin = whole
    for p in range(begin, end):
        panel = p * width * units * unit
        column = p * width
        valid = min(width, outputs - column)
        m = first
        while m < last:
            count = min(step, last - m)
            row = m * stride
            _tile(plan, count, panels, panel, bits, row, row_plane, stride, s16, s32, total, short)
            finish_rows(
                *(plan, short, s16, total, width, sums, 1, index, border, 1, columns, padding),
                *(scale, shift, out, m, count, 0, column, valid),
            )
            m += step


@nested
def multiply_gathered(  # type: ignore[no-untyped-def]
    plan,
    bits,
    row_plane,
    sums,
    pixels,
    index,
    border,
    positions,
    panels,
    columns,
    padding,
    scale,
    shift,
    out,
    first,
    last,
):
    """Convolve: rows are (image, position), ``index`` the input pixel of each position and tap.

    A pixel of -1 is padding: zero bits. ``padding[border[position]]`` (a row of all outputs) is
    added to the integers. ``bits`` must be readable eight bytes past its end.
    """
    fmt, input_bits, groups, outputs, taps = (
        plan[PLAN_FORMAT],
        plan[PLAN_INPUT_PLANES],
        plan[PLAN_GROUPS],
        plan[PLAN_OUTPUTS],
        plan[PLAN_TAPS],
    )
    size, units = plan[PLAN_ROW_BYTES], plan[PLAN_UNITS]
    width = 32 if fmt == 2 else 64
    step = _rows(fmt)
    unit = 4 if fmt == 2 else 1
    s16 = empty(step * width, np.uint16)
    s32 = empty(step * width, np.int32)
    total = empty(step * width, np.int32)
    short = (
        fmt < 2 and plan[PLAN_INPUT_PLANES] * plan[PLAN_WEIGHT_PLANES] == 1 and units <= _MOST_UNITS
    )
    stride = taps * size
    plane = _BLOCK * stride
    rows = zeros(input_bits * plane + 8, np.uint8)
    block = first
    while block < last:
        in_block = min(_BLOCK, last - block)
        for group in range(groups):
            gather_rows(
                *(plan, bits, row_plane, pixels, index, positions, group, block, in_block),
                *(rows, plane),
            )
            column = group * outputs
            panel = group * plan[PLAN_GROUP_BYTES]
            end = column + outputs
            while column < end:
                valid = min(width, end - column)
                start = 0
                while start < in_block:
                    count = min(step, in_block - start)
                    at = start * stride
                    _tile(
                        plan, count, panels, panel, rows, at, plane, stride, s16, s32, total, short
                    )
                    finish_rows(
                        *(plan, short, s16, total, width, sums, pixels, index, border, positions),
                        *(columns, padding, scale, shift, out, block + start, count, group),
                        *(column, valid),
                    )
                    start += step
                column += width
                panel += width * units * unit
        block += _BLOCK
