"""From bits of one product to the input of the next, as compiled code."""

from __future__ import annotations

import numpy as np

from ste_lightning.kernels.jit.arrays import empty
from ste_lightning.kernels.jit.c_functions import BYTES, INTEGERS, SIZE, SUMS, on_demand
from ste_lightning.kernels.jit.compiling import inlined
from ste_lightning.kernels.jit.simd import load_64, store_64
from ste_lightning.kernels.layout.call_record import ARRAYS, NUMBERS
from ste_lightning.kernels.layout.plan import (
    PLAN_CHANNELS,
    PLAN_GROUPS,
    PLAN_ROW_BYTES,
    PLAN_ROW_SLOPE,
)
from ste_lightning.kernels.layout.read_record import integers_of, opened, record_at

__all__ = ["relay"]

_PIXELS, _IMAGE, _LINE = (NUMBERS[name] for name in ("pixels", "image", "line"))
_LINES = ARRAYS["lines"]


@inlined
def _ones(byte):  # type: ignore[no-untyped-def]
    v = np.int32(byte)
    v = v - ((v >> 1) & 0x55)
    v = (v & 0x33) + ((v >> 2) & 0x33)
    return (v + (v >> 4)) & 15


@inlined
def _pool(source, base, window, begin, end, before, after, wide, out, to):  # type: ignore[no-untyped-def]
    """Write one pixel of ``wide`` bytes: the OR over the window from ``begin`` to ``end``."""
    i = 0
    while i + 8 <= wide:
        many, own = np.uint64(0), load_64(before, i)
        for t in range(begin, end):
            if window[t] >= 0:
                many |= load_64(source, base + window[t] + i) ^ own
        store_64(out, to + i, many ^ load_64(after, i))
        i += 8
    while i < wide:
        some = np.uint8(0)
        for t in range(begin, end):
            if window[t] >= 0:
                some |= source[base + window[t] + i] ^ before[i]
        out[to + i] = some ^ after[i]
        i += 1


@inlined
def _relay(  # type: ignore[no-untyped-def]
    record, lines, source, source_image, window, taps, before, after, pixel, out, sums, first, last
):
    groups, channels, size, pixels = (
        record[PLAN_GROUPS],
        record[PLAN_CHANNELS],
        record[PLAN_ROW_BYTES],
        record[_PIXELS],
    )
    image, step = record[_IMAGE], groups * size
    wide = (groups * channels + 7) // 8
    straight = groups == 1 or channels == 8 * size
    line = record[_LINE] // step if len(lines) > 0 else pixels
    for m in range(first, last):
        next_line = 0
        if len(lines) > 0:
            for i in range(m * image, (m + 1) * image):
                out[i] = 0
        to = m * image
        for p in range(pixels):
            if len(lines) > 0 and p == next_line * line:
                to = m * image + lines[next_line]
                next_line += 1
            begin, end = p * taps, (p + 1) * taps
            if straight:
                _pool(source, m * source_image, window, begin, end, before, after, wide, out, to)
                for i in range(to + wide, to + step):
                    out[i] = 0
            else:
                _pool(source, m * source_image, window, begin, end, before, after, wide, pixel, 0)
                for i in range(to, to + step):
                    out[i] = 0
                for n in range(groups * channels):
                    bit, c = (np.int64(pixel[n >> 3]) >> (n & 7)) & 1, n % channels
                    out[to + n // channels * size + (c >> 3)] |= np.uint8(bit << (c & 7))
            if record[PLAN_ROW_SLOPE] != 0:
                for group in range(groups):
                    total = np.int32(0)
                    for i in range(to + group * size, to + group * size + size):
                        total += _ones(out[i])
                    sums[(m * pixels + p) * groups + group] = total
            to += step


@on_demand(INTEGERS, BYTES, SIZE, INTEGERS, SIZE, BYTES, BYTES, BYTES, SUMS, SIZE, SIZE)
def relay(  # type: ignore[no-untyped-def]
    record_, source, source_image, window, taps, before, after, out, sums, first, last
):
    """Bring images ``first`` to ``last`` of bits into the form that the next product reads.

    A pixel of the next product's input is (OR over its window of source xor ``before``) xor
    ``after``.

    Args: the next product's record; ``source`` images of ``source_image`` bytes, each pixel whole
    bytes; ``window``, for every pixel and each of ``taps``, the byte where a source pixel begins
    or -1; ``before`` and ``after`` one bit per channel; ``out`` and ``sums`` as in
    :func:`.pack_floats`.
    """
    record = record_at(record_)
    pixel = empty(record[PLAN_GROUPS] * record[PLAN_CHANNELS] + 8, np.uint8)
    _relay(
        *(record, integers_of(record, _LINES), opened(source), source_image, opened(window), taps),
        *(opened(before), opened(after), pixel, opened(out), opened(sums), first, last),
    )
