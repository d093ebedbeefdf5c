"""Products in the format ``lookup``, as compiled code: 16 tables of counts for every four bits.

Rows are taken in pairs (see :mod:`.lut_two_rows`), some dozens at a time: their bits become offsets
into the tables once, and every panel of 64 channels is multiplied with all of them while it is
in the nearest cache. A row need not lie in one piece: it is the same runs of bytes after each
row's start, which are the taps of a convolution over an image with its padding.
"""

from __future__ import annotations

import numpy as np

from ste_lightning.kernels.gemm.rows import finish_rows, next_row
from ste_lightning.kernels.jit.arrays import empty, zeros
from ste_lightning.kernels.jit.compiling import inlined, nested
from ste_lightning.kernels.jit.simd import copy
from ste_lightning.kernels.layout.plan import (
    PLAN_GROUP_BYTES,
    PLAN_GROUPS,
    PLAN_INPUT_PLANES,
    PLAN_OUTPUTS,
    PLAN_PLANE_BYTES,
    PLAN_ROW_BYTES,
    PLAN_UNITS,
    PLAN_WEIGHT_PLANES,
)
from ste_lightning.kernels.ukernels.lut_one_row import single_row
from ste_lightning.kernels.ukernels.lut_two_rows import (
    NOTHING,
    STEP,
    expand_16,
    pairs_1,
    pairs_2,
    pairs_2_split,
    split_64,
)

__all__ = ["multiply_lookup", "pad_lines"]

_WIDTH = 64  # channels of a panel
_MOST_UNITS = 7920  # bytes of bits that a 16-bit sum can count, in whole chunks
_SPLIT = 150  # bytes of a row whose weights are split at once: 19 KB
_WHOLE = 30  # bytes of a row after which sums of bytes are full
_FEW = 8  # rows for which splitting the weights does not pay
_INDICES = 1 << 17  # bytes of offsets at once
_MOST_ROWS = 128
_PANELS = 16  # panels whose sums a single row finishes at once


@inlined
def _expand(bits, a, b, offsets, sizes, units, indices, to):  # type: ignore[no-untyped-def]
    """Write the table offsets of two rows, up to the end of a step."""
    for run in range(len(offsets)):
        i = 0
        while i < sizes[run]:
            expand_16(bits, a + offsets[run] + i, b + offsets[run] + i, indices, to + 2 * i)
            i += 16
        to += 2 * sizes[run]
    for i in range(2 * (-units % STEP)):
        indices[to + i] = NOTHING


@inlined
def _count(panels, panel, rows, indices, at, stride, units, halves, sums):  # type: ignore[no-untyped-def]
    """Add the counts of ``rows`` rows and one panel to ``sums``."""
    steps = (units + STEP - 1) // STEP
    if rows == 1:
        single_row(panels, panel, indices, at, units, sums, 0)
    elif rows == 2:
        pairs_1(panels, panel, indices, at, stride, steps, sums, 0)
    elif rows <= _FEW:
        for row in range(0, rows, 4):
            start = at + row // 2 * stride
            pairs_2(panels, panel, indices, start, stride, steps, sums, row * _WIDTH)
    else:
        parts = (units + _SPLIT - 1) // _SPLIT
        part = ((units + parts - 1) // parts + _WHOLE - 1) // _WHOLE * _WHOLE
        for done in range(0, units, part):
            size = min(part, units - done)
            steps = (size + STEP - 1) // STEP
            for k in range(size):
                split_64(panels, panel + (done + k) * _WIDTH, halves, 2 * _WIDTH * k)
            for row in range(0, rows, 4):
                start = at + row // 2 * stride + 2 * done
                pairs_2_split(halves, 0, indices, start, stride, steps, sums, row * _WIDTH)


@inlined
def _count_one(panels, panel, number, indices, units, sums):  # type: ignore[no-untyped-def]
    """Write the counts of one row and ``number`` panels to ``sums``."""
    sums[: number * _WIDTH] = 0
    for p in range(number):
        at = panel + p * _WIDTH * units
        single_row(panels, at, indices, 0, units, sums, p * _WIDTH)


@inlined
def _multiply(  # type: ignore[no-untyped-def]
    plan,
    bits,
    row_plane,
    sums,
    starts,
    image_bytes,
    offsets,
    sizes,
    pixels,
    index,
    border,
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
    block,
    short,
    indices,
    s16,
    total,
    halves,
):
    planes, groups, outputs, units = (
        plan[PLAN_INPUT_PLANES],
        plan[PLAN_GROUPS],
        plan[PLAN_OUTPUTS],
        plan[PLAN_UNITS],
    )
    positions, stride = len(starts), 2 * (units + STEP) + 32
    pairs = block // 2
    for row in range(first, last, block):
        rows = min(block, last - row)
        for group in range(groups):
            for plane in range(planes):
                base = (
                    plane * row_plane
                    + group * plan[PLAN_ROW_BYTES]
                    + row // positions * image_bytes
                )
                position = row % positions
                to = plane * pairs * stride
                for r in range(0, rows, 2):
                    a = base + starts[position]
                    base, position = next_row(base, position, positions, image_bytes)
                    b = base + starts[position] if r + 1 < rows else a
                    base, position = next_row(base, position, positions, image_bytes)
                    _expand(bits, a, b, offsets, sizes, units, indices, to)
                    to += stride
            alone = short and rows == 1
            many = _PANELS if alone else 1
            for p in range(begin, end, many):
                panel = group * plan[PLAN_GROUP_BYTES] + p * _WIDTH * units
                used = (rows + 3) // 4 * 4 * _WIDTH
                if alone:
                    _count_one(panels, panel, min(many, end - p), indices, units, s16)
                elif short:
                    s16[:used] = 0
                    _count(panels, panel, rows, indices, 0, stride, units, halves, s16)
                else:
                    total[:used] = 0
                    for i in range(planes):
                        for j in range(plan[PLAN_WEIGHT_PLANES]):
                            done = 0
                            while done < units:
                                size = min(_MOST_UNITS, units - done)
                                s16[:used] = 0
                                at = i * pairs * stride + 2 * done
                                weights = panel + j * plan[PLAN_PLANE_BYTES] + done * _WIDTH
                                _count(
                                    *(panels, weights, rows, indices, at, stride, size),
                                    *(halves, s16),
                                )
                                for k in range(used):
                                    total[k] += np.int32(s16[k]) << (i + j)
                                done += size
                column = group * outputs + p * _WIDTH
                valid = min(min(many, end - p) * _WIDTH, outputs - p * _WIDTH)
                finish_rows(
                    *(plan, short, s16, total, _WIDTH, sums, pixels, index, border, positions),
                    *(columns, padding, scale, shift, out, row, rows, group, column, valid),
                )


@nested
def multiply_lookup(  # type: ignore[no-untyped-def]
    plan,
    bits,
    row_plane,
    sums,
    starts,
    image_bytes,
    offsets,
    sizes,
    pixels,
    index,
    border,
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
    """Multiply rows ``first`` to ``last`` with panels ``begin`` to ``end`` of each group.

    Row m is position m mod P of image m div P, P the length of ``starts``: its bits are the runs
    of ``sizes`` bytes at ``starts[position] + offsets`` of the image. ``bits`` must be readable 16
    bytes past its end. ``pixels``, ``index``, ``border`` and ``padding`` are those of
    :func:`~ste_lightning.kernels.gemm.popcount.multiply_gathered`.
    """
    planes, units = plan[PLAN_INPUT_PLANES], plan[PLAN_UNITS]
    stride = 2 * (units + STEP) + 32
    short = planes * plan[PLAN_WEIGHT_PLANES] == 1 and units <= _MOST_UNITS
    block = min(max(_INDICES // (planes * stride) // 4 * 4, 16), _MOST_ROWS)
    blocks = max(1, (last - first + block - 1) // block)  # of the same size, to split weights once
    block = (last - first + 4 * blocks - 1) // (4 * blocks) * 4
    indices = zeros(planes * block // 2 * stride, np.uint16)
    s16 = empty(max(block, _PANELS) * _WIDTH, np.uint16)
    total = empty(1 if short else block * _WIDTH, np.int32)
    halves = empty(2 * _WIDTH * _SPLIT if block > _FEW else 1, np.uint8)
    _multiply(
        *(plan, bits, row_plane, sums, starts, image_bytes, offsets, sizes, pixels, index, border),
        *(panels, columns, padding, scale, shift, out, first, last, begin, end),
        *(block, short, indices, s16, total, halves),
    )


@nested
def pad_lines(bits, images, lines, size, image_bytes, out):  # type: ignore[no-untyped-def]
    """Copy each image's lines of ``size`` bytes to ``lines`` in an image of zeros."""
    at = 0
    for image in range(images):
        for line in range(len(lines)):
            copy(bits, at, out, image * image_bytes + lines[line], size)
            at += size
