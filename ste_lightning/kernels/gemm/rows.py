"""Rows of a product, as compiled code: what lies under each, and what becomes of its sums.

Row m is output position m mod P of image m div P, with P positions. ``index`` holds the input
pixel under each tap at each position, -1 outside the image; ``border`` numbers the sets of taps
outside it. A row of a linear layer is an image of one pixel and position.
"""

from __future__ import annotations

import numpy as np

from ste_lightning.kernels.epilogue.write import finish_row, finish_tile
from ste_lightning.kernels.jit.compiling import inlined
from ste_lightning.kernels.layout.plan import (
    PLAN_GROUPS,
    PLAN_INPUT_PLANES,
    PLAN_OUTPUTS,
    PLAN_PITCH,
    PLAN_ROW_BYTES,
    PLAN_ROW_SLOPE,
    PLAN_SLOPE,
    PLAN_TAPS,
)
from ste_lightning.kernels.pack.im2col import gather

__all__ = ["finish_rows", "gather_rows", "next_row"]


@inlined
def next_row(image, position, positions, pixels):  # type: ignore[no-untyped-def]
    """Return where the next row's image begins, and its position there; images take ``pixels``."""
    position += 1
    if position == positions:
        return image + pixels, 0
    return image, position


@inlined
def gather_rows(  # type: ignore[no-untyped-def]
    plan, bits, row_plane, pixels, index, positions, group, first, count, rows, plane
):
    """Copy the inputs of one group and ``count`` rows, from ``first`` on, to ``rows``.

    ``bits`` are planes of ``row_plane`` bytes, ``rows`` planes of ``plane`` bytes.
    """
    groups, taps, size = plan[PLAN_GROUPS], plan[PLAN_TAPS], plan[PLAN_ROW_BYTES]
    for i in range(plan[PLAN_INPUT_PLANES]):
        image, position = first // positions * pixels, first % positions
        to = i * plane
        for _ in range(count):
            base = i * row_plane + (image * groups + group) * size
            gather(bits, base, groups * size, index, position * taps, taps, size, rows, to)
            to += taps * size
            image, position = next_row(image, position, positions, pixels)


@inlined
def finish_rows(  # type: ignore[no-untyped-def]
    plan,
    short,
    s16,
    total,
    width,
    sums,
    pixels,
    index,
    border,
    positions,
    columns,
    padding,
    scale,
    shift,
    out,
    first,
    count,
    group,
    column,
    valid,
):
    """Write the results of ``count`` rows, from ``first`` on: ``valid`` ones from ``column`` on.

    Counts are in ``s16`` if ``short``, else in ``total``, ``width`` from one row to the next;
    ``sums`` are those of the inputs' codes per pixel and group; ``padding`` has a row of all
    outputs for every border.
    """
    groups, taps, pitch = plan[PLAN_GROUPS], plan[PLAN_TAPS], plan[PLAN_PITCH]
    slope, row_slope, outputs = (
        np.int32(plan[PLAN_SLOPE]),
        np.int32(plan[PLAN_ROW_SLOPE]),
        plan[PLAN_GROUPS] * plan[PLAN_OUTPUTS],
    )
    image, position = first // positions * pixels, first % positions
    place = first * pitch + column
    done = 0  # outputs
    while row_slope == 0 and done + 32 <= valid:
        if not short:
            whole = finish_tile(
                *(total, done, width, slope, columns, scale, shift, column + done, padding, border),
                *(position, positions, outputs, out, place + done, pitch, count),
            )
        else:
            whole = finish_tile(
                *(s16, done, width, slope, columns, scale, shift, column + done, padding, border),
                *(position, positions, outputs, out, place + done, pitch, count),
            )
        if not whole:
            break
        done += 32
    if done == valid:
        return
    column, place, valid = column + done, place + done, valid - done
    for r in range(count):
        from_row = np.int32(0)
        if row_slope != 0:
            for t in range(taps):
                pixel = np.int64(index[position * taps + t])
                if pixel >= 0:
                    from_row += sums[(image + pixel) * groups + group]
            from_row *= row_slope
        extra = border[position] * outputs + column
        finish_row(
            *(short, s16, total, r * width + done, slope, from_row, columns, scale, shift, column),
            *(padding, extra, out, place, valid),
        )
        image, position = next_row(image, position, positions, pixels)
        place += pitch
