"""Depthwise convolutions of images stored channel by channel, as compiled code: pixels are lanes.

A channel is copied to an image of 16-bit codes with its padding. There the input under a tap is
the same distance from every output, so that one vector instruction multiplies 16 neighbouring
outputs' inputs with the tap's weight (or two taps' inputs with two weights). Vectors run on from
line to line, over the padding too. Small channels are taken some at a time, step by step: what has
just been stored can be loaded from another place only once it has reached the cache.
"""

from __future__ import annotations

import numpy as np

from ste_lightning.kernels.depthwise.channels_first_simd import (
    LANES,
    RUN,
    codes_16,
    fill_16,
    finish_16,
    join_16,
    run_of_pairs,
    run_of_taps,
    shifted_16,
)
from ste_lightning.kernels.jit.arrays import empty
from ste_lightning.kernels.jit.compiling import compiled, inlined

__all__ = ["convolve_planes"]

_BAND = 1024  # sums that stay in the nearest cache
_TOGETHER = 4096  # words of channels that are taken step by step


@inlined
def _fill_plane(x, at, whole, shape, factor, offset, channel, strict, unit, pad, plane, base):  # type: ignore[no-untyped-def]
    """Copy a channel from ``x[at]`` to the image at ``plane[base]``, with padding between lines."""
    height, width, pitch = shape[0], shape[1], shape[9]
    by, plus = np.float32(1), np.float32(0)
    on, off = np.int16(unit), np.int16(0)
    if len(factor) > 0:
        by, plus = factor[channel], offset[channel]
    if strict:  # x > 0 where not -x < 0 does not hold
        by, plus, on, off = -by, -plus, np.int16(0), np.int16(unit)
    to = base + shape[6] * pitch + shape[7]
    for _ in range(height):
        if len(factor) > 0:
            for i in range(0, whole, LANES):
                shifted_16(x, at + i, by, plus, on, off, plane, to + i)
        else:
            for i in range(0, whole, LANES):
                codes_16(x, at + i, by, plus, on, off, plane, to + i)
        for i in range(whole, width):
            if x.itemsize == 1:
                plane[to + i] = np.int16(x[at + i]) * on
            else:
                plane[to + i] = off if x[at + i] * by + plus < 0 else on
        for i in range(0, pitch - width + 1, LANES):
            fill_16(plane, to + width + i, pad)
        at += width
        to += pitch


@inlined
def _sum_lines(plane, begin, lines, shape, places, apart, weights, first, column, sums, to):  # type: ignore[no-untyped-def]
    """Write the sums of ``lines`` lines of outputs, whose first input is ``plane[begin]``."""
    span = (lines - 1) * shape[9] + (shape[3] - 1) * shape[5] + 1
    for start in range(0, span, RUN):
        if apart > 0:
            run_of_pairs(plane, begin + start, places, weights, first, column, sums, to + start)
        else:
            run_of_taps(plane, begin + start, places, weights, first, column, sums, to + start)


@inlined
def _finish_lines(sums, at, lines, whole, shape, scale, shift, out, to):  # type: ignore[no-untyped-def]
    """Write the results of ``lines`` lines."""
    width, right, pitch = shape[3], shape[5], shape[9]
    for _ in range(lines):
        if right > 1:
            for i in range(1, width):
                sums[at + i] = sums[at + i * right]
        for i in range(0, whole, LANES):
            finish_16(sums, at + i, scale, shift, out, to + i)
        for i in range(whole, width):
            out[to + i] = np.float32(sums[at + i]) * scale + shift
        at += pitch
        to += width


@compiled
def convolve_planes(  # type: ignore[no-untyped-def]
    x,
    factor,
    offset,
    strict,
    unit,
    pad,
    shape,
    places,
    apart,
    weights,
    columns,
    scale,
    shift,
    kind,
    out,
    first,
    last,
):
    """Convolve planes (image, channel) ``first`` to ``last``.

    Args: ``x`` flat uint8 codes, or float32 whose sign (step if ``strict``) of factor x + offset
    per channel counts. A code is stored ``unit`` times, a pixel of padding as ``pad``; ``shape``
    is height and width of the input and of the output, strides, lines and pixels before the
    input, lines and pixels of the padded image; ``places`` of the taps in that image;
    ``weights`` per channel and tap, int16, which with ``columns`` sum to twice the result;
    ``kind`` an empty array of what holds a sum. If ``apart`` is not 0, ``places`` are of pairs of
    taps so far from each other, and a weight holds two bytes.
    """
    out_height, out_width, down, pitch = shape[2], shape[3], shape[4], shape[9]
    pixels, results = shape[0] * shape[1], shape[2] * shape[3]
    size = shape[8] * pitch + 2 * RUN + apart
    together = max(_TOGETHER // size, 1)
    plane = empty(together * size + LANES, np.int16)
    joined = empty(together * size + LANES if apart > 0 else 1, np.int16)
    band = out_height  # lines of outputs summed at once
    if together == 1:
        band = max(_BAND // pitch, 1) if down == 1 else 1
    room = band * pitch + 2 * RUN
    sums = np.empty(together * room, kind.dtype)
    plane[:] = pad
    words = joined if apart > 0 else plane
    channels, taps = len(columns), len(places)
    for begin in range(first, last, together):
        end = min(begin + together, last)
        for number in range(begin, end):
            # Vectors run over a line's end, into what is written next; not so at the very end.
            near = (last - 1 - number) * min(pixels, results) < LANES
            whole = shape[1]
            if near:
                whole = whole // LANES * LANES
            _fill_plane(
                *(x, number * pixels, whole, shape, factor, offset, number % channels, strict),
                *(unit, pad, plane, (number - begin) * size),
            )
        if apart > 0:
            for i in range(0, (end - begin) * size - apart, LANES):
                join_16(plane, i, apart, joined)
        for y in range(0, out_height, band):
            lines = min(band, out_height - y)
            step = lines if down == 1 else 1
            for number in range(begin, end):
                source, to = (number - begin) * size, (number - begin) * room
                channel = number % channels
                for line in range(0, lines, step):
                    _sum_lines(
                        *(words, source + (y + line) * down * pitch, step, shape, places, apart),
                        *(weights, channel * taps, columns[channel], sums, to + line * pitch),
                    )
            for number in range(begin, end):
                near = (last - 1 - number) * min(pixels, results) < LANES
                whole = out_width
                if near:
                    whole = whole // LANES * LANES
                channel = number % channels
                _finish_lines(
                    *(sums, (number - begin) * room, lines, whole, shape),
                    *(np.float32(0.5) * scale[channel], shift[channel], out),
                    number * results + y * out_width,
                )
