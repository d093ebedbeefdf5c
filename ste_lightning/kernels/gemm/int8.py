"""Products of packed codes, as compiled code: the formats whose kernels sum products of codes.

What a caller gets is ``((slope X + from_row + from_column) / 2 + padding) * scale + shift`` as
float32, as in :mod:`.popcount`, with X = sum_k x_k w_k. A panel's weights are read block by block,
so that a block stays in the first cache while all rows pass over it.
"""

from __future__ import annotations

import numpy as np

from ste_lightning.kernels.gemm.rows import finish_rows, gather_rows
from ste_lightning.kernels.jit.arrays import empty, zeros
from ste_lightning.kernels.jit.compiling import compiled, inlined, nested
from ste_lightning.kernels.layout.plan import (
    PLAN_BLOCK,
    PLAN_DIGIT,
    PLAN_FORMAT,
    PLAN_GROUP_BYTES,
    PLAN_GROUPS,
    PLAN_INPUT_PLANES,
    PLAN_OUTPUTS,
    PLAN_PANEL_BYTES,
    PLAN_PLANE_BYTES,
    PLAN_ROW_BYTES,
    PLAN_TAPS,
    PLAN_UNITS,
    PLAN_WEIGHT_PLANES,
)
from ste_lightning.kernels.ukernels.int8 import bytes_1, bytes_4, words_1, words_4
from ste_lightning.kernels.ukernels.lut_2x1 import table_2x1_1, table_2x1_4

__all__ = ["multiply", "multiply_gathered"]

_ROWS = 32  # rows that pass over a panel together: a multiple of four
_GATHERED = 16


@inlined
def _width(fmt):  # type: ignore[no-untyped-def]
    """Return the outputs of a panel."""
    return 64 if fmt == 5 else 32


@nested
def _sum(plan, count, panels, panel, bits, row, row_plane, sums):  # type: ignore[no-untyped-def]
    """Write X of ``count`` rows times one panel to ``sums``; rows are read in fours."""
    fmt, stride, units, block = (
        plan[PLAN_FORMAT],
        plan[PLAN_TAPS] * plan[PLAN_ROW_BYTES],
        plan[PLAN_UNITS],
        plan[PLAN_BLOCK],
    )
    width = _width(fmt)
    in_unit = 64 if fmt != 4 else 32  # bytes of weights
    parts = 2 if fmt < 5 else 1  # a panel of the formats of digits is two of 16 outputs
    fours = count // 4 * 4 if count % 4 == 1 else (count + 3) // 4 * 4
    sums[: max(fours, count) * width] = 0
    for i in range(plan[PLAN_INPUT_PLANES]):
        for j in range(plan[PLAN_WEIGHT_PLANES]):
            shift = np.int32(2 * i + plan[PLAN_DIGIT] * j)
            for part in range(parts):
                base = panel + j * plan[PLAN_PLANE_BYTES] + part * units * in_unit
                start = 0
                while start < units:
                    size = min(block, units - start)
                    at = base + start * in_unit
                    from_row = row + i * row_plane + start * 4
                    for r in range(0, fours, 4):
                        x, s = from_row + r * stride, r * width + part * 16
                        if fmt == 3:
                            bytes_4(panels, at, bits, x, stride, size, sums, s)
                        elif fmt == 4:
                            words_4(panels, at, bits, x, stride, size, sums, s)
                        else:
                            table_2x1_4(panels, at, bits, x, stride, size, shift, sums, s)
                    if fours < count:
                        x, s = from_row + fours * stride, fours * width + part * 16
                        if fmt == 3:
                            bytes_1(panels, at, bits, x, stride, size, sums, s)
                        elif fmt == 4:
                            words_1(panels, at, bits, x, stride, size, sums, s)
                        else:
                            table_2x1_1(panels, at, bits, x, stride, size, shift, sums, s)
                    start += size


@compiled
def multiply(  # type: ignore[no-untyped-def]
    plan,
    bits,
    row_plane,
    row_sums,
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

    ``bits`` must be readable for three rows after the last; ``padding`` holds a zero per output.
    """
    outputs, stride = plan[PLAN_OUTPUTS], plan[PLAN_TAPS] * plan[PLAN_ROW_BYTES]
    width = _width(plan[PLAN_FORMAT])
    panel_bytes = plan[PLAN_PANEL_BYTES]
    sums, none = empty(_ROWS * width, np.int32), empty(0, np.uint16)
    index, border = zeros(1, np.int32), zeros(1, np.int64)
    for p in range(begin, end):
        column = p * width
        valid = min(width, outputs - column)
        for m in range(first, last, _ROWS):
            count = min(_ROWS, last - m)
            _sum(plan, count, panels, p * panel_bytes, bits, m * stride, row_plane, sums)
            finish_rows(
                *(plan, False, none, sums, width, row_sums, 1, index, border, 1, columns),
                *(padding, scale, shift, out, m, count, 0, column, valid),
            )


@compiled
def multiply_gathered(  # type: ignore[no-untyped-def]
    plan,
    bits,
    row_plane,
    row_sums,
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

    A pixel of -1 is padding: codes of zero. ``padding[border[position]]`` (a row of all outputs)
    is added to the integers. ``bits`` must be readable eight bytes past its end.
    """
    input_planes, groups, outputs, taps, size = (
        plan[PLAN_INPUT_PLANES],
        plan[PLAN_GROUPS],
        plan[PLAN_OUTPUTS],
        plan[PLAN_TAPS],
        plan[PLAN_ROW_BYTES],
    )
    width = _width(plan[PLAN_FORMAT])
    panel_bytes = plan[PLAN_PANEL_BYTES]
    sums, none = empty(_GATHERED * width, np.int32), empty(0, np.uint16)
    stride = taps * size
    plane = _GATHERED * stride
    rows = zeros(input_planes * plane + 8, np.uint8)
    for block in range(first, last, _GATHERED):
        count = min(_GATHERED, last - block)
        for group in range(groups):
            gather_rows(
                *(plan, bits, row_plane, pixels, index, positions, group, block, count),
                *(rows, plane),
            )
            for n in range(0, outputs, width):
                column = group * outputs + n
                panel = group * plan[PLAN_GROUP_BYTES] + n // width * panel_bytes
                _sum(plan, count, panels, panel, rows, 0, plane, sums)
                finish_rows(
                    *(plan, False, none, sums, width, row_sums, pixels, index, border, positions),
                    *(columns, padding, scale, shift, out, block, count, group, column),
                    min(width, outputs - n),
                )
