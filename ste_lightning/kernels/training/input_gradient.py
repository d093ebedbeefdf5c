"""The gradient in the input of a two-dimensional convolution of bits with bits, by look-up.

It is a sum over outputs of the output's gradient times the weights' signs, from tables
(:mod:`.lut_float_sums`); it rounds differently than float products. For ``shape`` see there.
"""

from __future__ import annotations

import numpy as np

from ste_lightning.kernels.jit.arrays import empty, zeros
from ste_lightning.kernels.jit.c_functions import BYTES, FLOATS, INTEGERS, SIZE, addressed, carray
from ste_lightning.kernels.jit.compiling import inlined
from ste_lightning.kernels.ukernels.lut_float_sums import (
    ENTRIES,
    FIELDS,
    LANES,
    ROWS,
    TABLES,
    add_8,
    add_16,
    add_sums,
    fill_table,
    table_room,
)

__all__ = ["input_gradient", "pattern_bytes", "weight_patterns"]


def pattern_bytes(groups: int, channels: int, outputs: int, taps: int) -> int:
    """Return the size of what :func:`weight_patterns` writes."""
    return groups * -(-outputs // ROWS) * taps * channels * TABLES


@addressed(INTEGERS, FLOATS, BYTES)
def weight_patterns(shape_, weight_, out_):  # type: ignore[no-untyped-def]
    """Write the signs of the weights as patterns of four outputs, which select table entries.

    ``out`` is (groups, blocks of 32 outputs, taps, channels, 8); missing outputs have no bits.
    """
    shape = carray(shape_, (FIELDS,))
    groups, channels, outputs = shape[1], shape[2], shape[3]
    taps = shape[8] * shape[9]
    blocks = (outputs + ROWS - 1) // ROWS
    weight = carray(weight_, (groups * outputs * channels * taps,))
    out = carray(out_, (groups * blocks * taps * channels * TABLES,))
    out[:] = 0
    for group in range(groups):
        for o in range(outputs):
            block, table = o // ROWS, o % ROWS // 4
            bit = np.uint8(8 << (o % 4))
            source = (group * outputs + o) * channels * taps
            for t in range(taps):
                to = ((group * blocks + block) * taps + t) * channels * TABLES + table
                for c in range(channels):
                    if not (weight[source + c * taps + t] < 0):
                        out[to + c * TABLES] |= bit


@inlined
def _add_lanes(sums, start, length, channels, line, image, to):  # type: ignore[no-untyped-def]
    """Add lanes of every channel's sums to one line of the image."""
    if length == LANES:
        for c in range(channels):
            add_16(sums, c * LANES, image, to + c * line)
    elif length == 8:
        for c in range(channels):
            add_8(sums, c * LANES + start, image, to + c * line)
    else:
        for c in range(channels):
            for i in range(length):
                image[to + c * line + i] += sums[c * LANES + start + i]


@inlined
def _read_image(shape, image, lines, line, out, start):  # type: ignore[no-untyped-def]
    """Copy the image without its padding, channel by channel."""
    channels, height, width = shape[2], shape[4], shape[5]
    down, right, above, before = shape[10], shape[11], shape[12], shape[13]
    for y in range(height):
        row = (y + above) // down
        for c in range(channels):
            to = start + (c * height + y) * width
            if right == 1:
                at = (((y + above) % down * lines + row) * channels + c) * line + before
                for x in range(width):
                    out[to + x] = image[at + x]
                continue
            for x0 in range(right):  # columns of one remainder of the stride
                first = (x0 - before) % right
                remainder = (y + above) % down * right + x0
                at = ((remainder * lines + row) * channels + c) * line + (first + before) // right
                for i in range((width - first + right - 1) // right):
                    out[to + first + i * right] = image[at + i]


@addressed(INTEGERS, FLOATS, BYTES, FLOATS, SIZE, SIZE)
def input_gradient(shape_, grad_, patterns_, out_, first, last):  # type: ignore[no-untyped-def]
    """Write the gradient in the input of images ``first`` to ``last``; groups count as images.

    Sixteen output positions are summed at a time. Their sums for a tap are added to the input's
    padded image, which is kept as one image per remainder of the stride, line by line.
    """
    shape = carray(shape_, (FIELDS,))
    groups, channels, outputs = shape[1], shape[2], shape[3]
    height, width, rows, columns = shape[4], shape[5], shape[6], shape[7]
    down, right, kernel_columns = shape[10], shape[11], shape[9]
    taps = shape[8] * kernel_columns
    positions, pixels = rows * columns, height * width
    blocks = (outputs + ROWS - 1) // ROWS
    grad = carray(grad_, (last * outputs * positions,))
    out = carray(out_, (last * channels * pixels,))
    patterns = carray(patterns_, (groups * blocks * taps * channels * TABLES,))
    lines = max((height + shape[12] - 1) // down + 1, rows + (shape[8] - 1) * shape[14] // down)
    line = max(
        (width + shape[13] - 1) // right + 1, columns + (kernel_columns - 1) * shape[15] // right
    )
    image = empty(down * right * lines * channels * line, np.float32)
    tables = table_room(blocks)
    sums = empty(channels * LANES, np.float32)
    tail = zeros(outputs * LANES, np.float32)
    for m in range(first, last):
        image[:] = 0
        source = m * outputs * positions
        for p in range(0, positions, LANES):
            count = min(LANES, positions - p)
            if count < LANES:
                for o in range(outputs):
                    for i in range(count):
                        tail[o * LANES + i] = grad[source + o * positions + p + i]
            for j in range(blocks * TABLES):
                several = min(max(outputs - 4 * j, 0), 4)
                if count < LANES:
                    fill_table(tail, 4 * j * LANES, LANES, several, np.float32(-1), tables, j)
                else:
                    at = source + 4 * j * positions + p
                    fill_table(grad, at, positions, several, np.float32(-1), tables, j)
            for t in range(taps):
                sums[:] = 0
                for block in range(blocks):
                    at = ((m % groups * blocks + block) * taps + t) * channels * TABLES
                    part = tables[block * TABLES * ENTRIES : (block + 1) * TABLES * ENTRIES]
                    add_sums(patterns, at, channels, part, sums, 0)
                y0, x0 = t // kernel_columns * shape[14], t % kernel_columns * shape[15]
                remainder = y0 % down * right + x0 % right
                start = 0
                while start < count:
                    y, x = (p + start) // columns, (p + start) % columns
                    length = min(count - start, columns - x)
                    to = (remainder * lines + y + y0 // down) * channels * line + x + x0 // right
                    _add_lanes(sums, start, length, channels, line, image, to)
                    start += length
        _read_image(shape, image, lines, line, out, m * channels * pixels)
