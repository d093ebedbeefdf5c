"""The gradient in the weights of a two-dimensional convolution of bits with bits, by look-up.

It is a sum over positions of the output's gradient times the input's bits, from tables
(:mod:`.lut_float_sums`); it rounds differently than float products. For ``shape`` see there.
"""

from __future__ import annotations

import numpy as np

from ste_lightning.kernels.jit.arrays import empty, zeros
from ste_lightning.kernels.jit.c_functions import (
    FLOAT,
    FLOATS,
    INTEGERS,
    SIZE,
    WORDS,
    addressed,
    carray,
)
from ste_lightning.kernels.jit.compiling import inlined, nested
from ste_lightning.kernels.jit.simd import store_64
from ste_lightning.kernels.pack.transpose import transpose
from ste_lightning.kernels.ukernels.lut_float_sums import (
    FIELDS,
    LANES,
    TABLES,
    add_16,
    add_sums,
    fill_table,
    table_room,
)

__all__ = ["weight_gradient"]

_TILE = 384  # sums whose accumulators stay in the first cache
_BLOCKS = 16  # of positions, over which such accumulators are used again


@inlined
def _turn(grad, at, outputs, positions, out, to, lanes):  # type: ignore[no-untyped-def]
    """Transpose (outputs, positions) to (positions, lanes)."""
    whole_outputs, whole = outputs // 8 * 8, positions // 8 * 8
    for o in range(0, whole_outputs, 8):
        for p in range(0, whole, 8):
            transpose(grad, at + o * positions + p, positions, out, to + p * lanes + o, lanes)
    for o in range(outputs):
        for p in range(whole if o < whole_outputs else 0, positions):
            out[to + p * lanes + o] = grad[at + o * positions + p]


@inlined
def _add_row(x, at, lanes, sums, to):  # type: ignore[no-untyped-def]
    for o in range(0, lanes, LANES):
        add_16(x, at + o, sums, to + o)


@inlined
def _outside(shape, turned, at, lanes, sums):  # type: ignore[no-untyped-def]
    """Add to ``sums`` per tap the gradients of the positions at which it lies outside the input."""
    columns, right = shape[7], shape[11]
    for t in range(shape[8] * shape[9]):
        y0 = t // shape[9] * shape[14] - shape[12]
        x0 = t % shape[9] * shape[15] - shape[13]
        begin = min(max((-x0 + right - 1) // right, 0), columns)
        end = max(min((shape[5] - x0 + right - 1) // right, columns), begin)
        for y in range(shape[6]):
            row = y * shape[10] + y0
            beyond = row < 0 or row >= shape[4]
            for x in range(columns if beyond else begin):
                _add_row(turned, at + (y * columns + x) * lanes, lanes, sums, t * lanes)
            for x in range(columns if beyond else end, columns):
                _add_row(turned, at + (y * columns + x) * lanes, lanes, sums, t * lanes)


@inlined
def _lines(shape):  # type: ignore[no-untyped-def]
    """Return how many lines of the padded input are read, and words of 64 pixels of each.

    A line has its pixels sorted by the remainder of the stride.
    """
    lines = (shape[6] - 1) * shape[10] + (shape[8] - 1) * shape[14] + 1
    pixels = (shape[7] + 3) // 4 * 4 + (shape[9] - 1) * shape[15] // shape[11] + 1
    return lines, (pixels + 63) // 64 + 1


@inlined
def _bits_from(words, at, count):  # type: ignore[no-untyped-def]
    """Return ``count`` <= 32 bits from bit ``at`` on."""
    place, shift = at // 32, np.uint64(at % 32)
    word = np.uint64(words[place])
    if at % 32 + count > 32:
        word |= np.uint64(words[place + 1]) << np.uint64(32)
    return (word >> shift) & ((np.uint64(1) << np.uint64(count)) - np.uint64(1))


@inlined
def _every_second(word):  # type: ignore[no-untyped-def]
    """Return bits 0, 2, 4, ... of 32, side by side."""
    word &= np.uint64(0x55555555)
    word = (word | (word >> np.uint64(1))) & np.uint64(0x33333333)
    word = (word | (word >> np.uint64(2))) & np.uint64(0x0F0F0F0F)
    word = (word | (word >> np.uint64(4))) & np.uint64(0x00FF00FF)
    return (word | (word >> np.uint64(8))) & np.uint64(0x0000FFFF)


@inlined
def _read_bits(shape, words, m, rows):  # type: ignore[no-untyped-def]
    """Write the lines of a padded input: (lines, channels, remainders, words)."""
    lines, size = _lines(shape)
    channels, height, width = shape[2], shape[4], shape[5]
    above, before, right = shape[12], shape[13], shape[11]
    rows[:] = 0
    for y in range(min(height, lines - above)):
        for c in range(channels):
            at = ((m * channels + c) * height + y) * width
            to = ((y + above) * channels + c) * right * size
            if right == 1:
                for x in range(0, width, 32):
                    count = min(32, width - x)
                    word = np.uint64(_bits_from(words, at + x, count))
                    place, shift = (x + before) // 64, np.uint64((x + before) % 64)
                    if place < size:
                        rows[to + place] |= word << shift
                    if shift > 32 and place + 1 < size:
                        rows[to + place + 1] |= word >> (np.uint64(64) - shift)
                continue
            if right == 2:
                for x in range(0, width, 32):
                    count = min(32, width - x)
                    word = np.uint64(_bits_from(words, at + x, count))
                    for odd in range(2):
                        place = (x + odd + before) // 2
                        half = _every_second(word >> np.uint64(odd))
                        line = to + (odd + before) % 2 * size
                        shift = np.uint64(place % 64)
                        if place // 64 < size:
                            rows[line + place // 64] |= half << shift
                        if shift > 48 and place // 64 + 1 < size:
                            rows[line + place // 64 + 1] |= half >> (np.uint64(64) - shift)
                continue
            for x in range(width):
                i = at + x
                bit = np.uint64((words[i // 32] >> np.uint32(i % 32)) & np.uint32(1))
                place = (x + before) // right
                if place < 64 * size:
                    rows[to + (x + before) % right * size + place // 64] |= bit << np.uint64(
                        place % 64
                    )


@nested
def _input_patterns(shape, rows, out, start):  # type: ignore[no-untyped-def]
    """Write the patterns of an image: (blocks of eight tables, taps, channels, 8)."""
    _, size = _lines(shape)
    channels, columns, right = shape[2], shape[7], shape[11]
    quads = (columns + 3) // 4
    all_quads = shape[6] * quads
    taps = shape[8] * shape[9]
    full, one, last = np.uint64(0xFFFFFFFFFFFFFFFF), np.uint64(1), np.uint64(63)
    step = right * size
    places = np.empty((TABLES, 2), np.int64)  # of runs of tables: line and number of the first
    counts, shifts = empty(TABLES, np.int64), empty(TABLES, np.uint64)
    for first in range(0, all_quads, TABLES):
        for t in range(taps):
            down, x0 = t // shape[9] * shape[14], t % shape[9] * shape[15]
            to = start + (first // TABLES * taps + t) * channels * TABLES
            runs, quad = 0, first
            while quad < min(first + TABLES, all_quads):
                y, q = quad // quads, quad % quads
                x = 4 * q + x0 // right
                line = (y * shape[10] + down) * channels * step + x0 % right * size
                places[runs, 0], places[runs, 1] = line + x // 64, 4 * (quad - first)
                counts[runs], shifts[runs] = 4 * min(quads - q, first + TABLES - quad), x % 64
                quad += counts[runs] // 4
                runs += 1
            for c in range(channels):
                found = np.uint64(0)
                for run in range(runs):
                    place, shift = places[run, 0] + c * step, shifts[run]
                    bits = (rows[place] >> shift) | (rows[place + 1] << one << (last - shift))
                    bits &= full >> np.uint64(64 - counts[run])
                    found |= bits << np.uint64(places[run, 1])
                # four bits to a byte
                found = (found | (found << np.uint64(16))) & np.uint64(0x0000FFFF0000FFFF)
                found = (found | (found << np.uint64(8))) & np.uint64(0x00FF00FF00FF00FF)
                found = (found | (found << np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
                store_64(out, to + c * TABLES, found << np.uint64(3))


@addressed(INTEGERS, FLOATS, WORDS, FLOAT, FLOAT, FLOATS, SIZE, SIZE)
def weight_gradient(shape_, grad_, bits_, low, pad, out_, first, last):  # type: ignore[no-untyped-def]
    """Write the gradient in the weights' signs over images ``first`` to ``last``.

    Args: ``bits`` of the input, 1 where they are set and ``low`` elsewhere; ``pad`` the value of
    padded inputs; ``out`` (groups, outputs, channels, taps).
    """
    shape = carray(shape_, (FIELDS,))
    groups, channels, outputs = shape[1], shape[2], shape[3]
    rows, columns = shape[6], shape[7]
    taps, positions = shape[8] * shape[9], rows * columns
    grad = carray(grad_, (last * groups * outputs * positions,))
    out = carray(out_, (groups * outputs * channels * taps,))
    quads = (columns + 3) // 4  # positions of a table, in a row
    blocks = (rows * quads + TABLES - 1) // TABLES
    several = max(_BLOCKS // blocks, 1)
    lanes = (outputs + LANES - 1) // LANES * LANES
    sums_of = taps * channels
    patterns = zeros(several * blocks * sums_of * TABLES, np.uint8)
    turned = zeros(several * positions * lanes, np.float32)
    sums = empty(lanes * sums_of, np.float32)
    outside = empty(taps * lanes, np.float32)
    tables = table_room(1)
    lines, size = _lines(shape)
    bit_rows = empty(lines * channels * shape[11] * size, np.uint64)
    words = carray(bits_, ((last * groups * channels * shape[4] * shape[5] + 31) // 32,))
    for group in range(groups):
        sums[:] = 0
        outside[:] = 0
        for n in range(first, last, several):
            images = min(several, last - n)
            for i in range(images):
                m = (n + i) * groups + group
                to = i * positions * lanes
                _turn(grad, m * outputs * positions, outputs, positions, turned, to, lanes)
                _outside(shape, turned, to, lanes, outside)
                _read_bits(shape, words, m, bit_rows)
                _input_patterns(shape, bit_rows, patterns, i * blocks * sums_of * TABLES)
            for o in range(0, lanes, LANES):
                for k in range(0, sums_of, _TILE):
                    count = min(_TILE, sums_of - k)
                    for block in range(images * blocks):
                        for j in range(TABLES):
                            quad = block % blocks * TABLES + j
                            y, x = quad // quads, quad % quads * 4
                            valid = min(columns - x, 4) if y < rows else 0
                            place = (block // blocks * positions + y * columns + x) * lanes + o
                            fill_table(turned, place, lanes, valid, low, tables, j)
                        at = (block * sums_of + k) * TABLES
                        add_sums(patterns, at, count, tables, sums, o * sums_of + k * LANES)
        for o in range(outputs):
            base = o // LANES * LANES * sums_of + o % LANES
            to = (group * outputs + o) * sums_of
            for t in range(taps):
                more = (pad - low) * outside[t * lanes + o]
                for c in range(channels):
                    out[to + c * taps + t] = sums[base + (t * channels + c) * LANES] + more
