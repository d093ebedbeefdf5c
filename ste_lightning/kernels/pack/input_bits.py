"""Inputs packed into rows of bits, as compiled code.

A row is one sample (or one pixel) and group: its channels' bits, lowest channel first, in whole
units of the format ``fmt`` (a layout's number, the first entry of a ``plan``). All functions take
ranges, so that threads can share the work.
"""

from __future__ import annotations

import numpy as np

from ste_lightning.kernels.jit.arrays import empty
from ste_lightning.kernels.jit.compiling import inlined, nested
from ste_lightning.kernels.jit.simd import (
    compare,
    compare_affine,
    plane_of,
    sign_affine_planes,
    sign_planes,
    step_affine_planes,
    step_planes,
    store_32,
)
from ste_lightning.kernels.layout.plan import (
    PLAN_CHANNELS,
    PLAN_FORMAT,
    PLAN_GROUPS,
    PLAN_ROW_BYTES,
    PLAN_STEPS,
)

__all__ = ["octets_of", "pack_codes", "pack_planar", "pack_rows"]


@inlined
def _put(fmt, word, count, out, at):  # type: ignore[no-untyped-def]
    """Store ``count`` <= 32 bits (those above are zero); return how many bytes that took."""
    if fmt == 2 or count > 24:
        store_32(out, at, word)
        return 4
    size = (count + 7) // 8
    for i in range(size):
        out[at + i] = np.uint8((np.uint64(word) >> np.uint64(8 * i)) & np.uint64(255))
    return size


@inlined
def _ones(word):  # type: ignore[no-untyped-def]
    v = np.uint64(word)
    v = v - ((v >> np.uint64(1)) & np.uint64(0x55555555))
    v = (v & np.uint64(0x33333333)) + ((v >> np.uint64(2)) & np.uint64(0x33333333))
    v = (v + (v >> np.uint64(4))) & np.uint64(0x0F0F0F0F)
    return np.int32(((v * np.uint64(0x01010101)) & np.uint64(0xFFFFFFFF)) >> np.uint64(24))


@inlined
def _bit(value, strict):  # type: ignore[no-untyped-def]
    return value > 0 if strict else not (value < 0)


@nested
def pack_rows(plan, x, scale, shift, out, sums, first, last):  # type: ignore[no-untyped-def]
    """Pack the signs or steps of rows of floats.

    Args: ``x`` flat float32 of rows x groups x channels; ``scale`` and ``shift``, if not empty,
    one per channel of all groups: scale * x + shift is compared; ``out`` the bits; ``sums``
    number of ones per row and group, or empty; rows ``first`` to ``last``.
    """
    fmt, groups, channels, size, strict = (
        plan[PLAN_FORMAT],
        plan[PLAN_GROUPS],
        plan[PLAN_CHANNELS],
        plan[PLAN_ROW_BYTES],
        plan[PLAN_STEPS] != 0,
    )
    affine = len(scale) > 0
    whole = channels // 32 * 32
    for row in range(first, last):
        for group in range(groups):
            start = (row * groups + group) * channels
            at = (row * groups + group) * size
            base = group * channels
            total = np.int32(0)
            c = 0
            while c < whole:
                if affine:
                    word = compare_affine(x, start + c, strict, scale, shift, base + c)
                else:
                    word = compare(x, start + c, strict)
                at += _put(fmt, word, 32, out, at)
                if len(sums) > 0:
                    total += _ones(word)
                c += 32
            if whole < channels:
                word = np.uint32(0)
                for c in range(whole, channels):
                    value = x[start + c]
                    if affine:
                        value = value * scale[base + c] + shift[base + c]
                    if _bit(value, strict):
                        word |= np.uint32(1) << np.uint32(c - whole)
                _put(fmt, word, channels - whole, out, at)
                if len(sums) > 0:
                    total += _ones(word)
            if len(sums) > 0:
                sums[row * groups + group] = total


@inlined
def octets_of(x, at, stride, count, strict, affine, scale, shift, channel, octets):  # type: ignore[no-untyped-def]
    """Write the bits of 32 pixels and up to eight channels, a byte per pixel."""
    if affine:
        if strict:
            step_affine_planes(x, at, stride, count, scale, shift, channel, octets)
        else:
            sign_affine_planes(x, at, stride, count, scale, shift, channel, octets)
    elif strict:
        step_planes(x, at, stride, count, scale, shift, channel, octets)
    else:
        sign_planes(x, at, stride, count, scale, shift, channel, octets)


@nested
def pack_planar(plan, x, pixels, scale, shift, out, first, last):  # type: ignore[no-untyped-def]
    """Pack images stored channel by channel (NCHW); one row of bits per pixel.

    Args as in :func:`pack_rows`, with ``pixels`` per image and images ``first`` to ``last``.
    """
    groups, channels, size, strict = (
        plan[PLAN_GROUPS],
        plan[PLAN_CHANNELS],
        plan[PLAN_ROW_BYTES],
        plan[PLAN_STEPS] != 0,
    )
    octets = empty(32, np.uint8)
    affine = len(scale) > 0
    step = groups * size
    for image in range(first, last):
        for group in range(groups):
            c = 0
            while c < channels:
                count = min(8, channels - c)
                channel = group * channels + c
                plane = (image * groups * channels + channel) * pixels
                start = 0
                while start < pixels:
                    if pixels >= 32:
                        start = min(start, pixels - 32)
                        at = plane + start
                        octets_of(
                            x, at, pixels, count, strict, affine, scale, shift, channel, octets
                        )
                    else:
                        for i in range(pixels):
                            octet = 0
                            for k in range(count):
                                value = x[plane + k * pixels + i]
                                if affine:
                                    value = value * scale[channel + k] + shift[channel + k]
                                if _bit(value, strict):
                                    octet |= 1 << k
                            octets[i] = np.uint8(octet)
                    at = ((image * pixels + start) * groups + group) * size + c // 8
                    for i in range(min(32, pixels)):
                        byte = np.int64(octets[i])
                        out[at] = np.uint8(byte)
                        at += step
                    start += 32
                c += 8


@nested
def pack_codes(plan, codes, bit, out, start, first, last):  # type: ignore[no-untyped-def]
    """Pack bit ``bit`` of unsigned codes, rows ``first`` to ``last``, to ``out[start:]``."""
    fmt, groups, channels, size = (
        plan[PLAN_FORMAT],
        plan[PLAN_GROUPS],
        plan[PLAN_CHANNELS],
        plan[PLAN_ROW_BYTES],
    )
    whole = channels // 32 * 32
    for row in range(first, last):
        for group in range(groups):
            source = (row * groups + group) * channels
            at = start + (row * groups + group) * size
            c = 0
            while c < whole:
                at += _put(fmt, plane_of(codes, source + c, bit), 32, out, at)
                c += 32
            if whole < channels:
                word = np.uint32(0)
                for c in range(whole, channels):
                    if (codes[source + c] >> bit) & 1:
                        word |= np.uint32(1) << np.uint32(c - whole)
                _put(fmt, word, channels - whole, out, at)
