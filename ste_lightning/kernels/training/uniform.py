"""Quantization to uniform grids as compiled code: floats to codes, bits of a mask, and back.

A level is round(clip(v, low, high)) with v = x / s + z; it stands for s (level - z), and its code
is level - low. Loops run from 0 over parts of arrays: from ``first`` on they do not become vectors.
"""

from __future__ import annotations

import numpy as np

from ste_lightning.kernels.jit.c_functions import (
    BYTES,
    FLAG,
    FLOAT,
    FLOATS,
    SIZE,
    WORDS,
    addressed,
    carray,
)
from ste_lightning.kernels.jit.simd_rounding import levels_32
from ste_lightning.kernels.training.lsq import nearest

__all__ = ["clip_rows", "codes", "join_halves", "quantize_rows", "values", "values_of_halves"]


@addressed(FLOATS, *[FLOAT] * 6, BYTES, WORDS, FLAG, SIZE, SIZE, SIZE, returns=SIZE)
def codes(  # type: ignore[no-untyped-def]
    x_, s, z, low, high, least, most, out_, mask_, masked, count, first, last
):
    """Write the codes of words ``first`` to ``last`` of 32 elements; return whether one is NaN.

    ``mask`` gets, if ``masked``, the bits of least <= v <= most, zeros after ``count`` elements.
    """
    x, out, mask = carray(x_, (count,)), carray(out_, (count,)), carray(mask_, (last,))
    part, row = np.zeros(32, np.float32), np.zeros(32, np.uint8)
    strange = np.uint64(0)
    for word in range(first, last):
        at = 32 * word
        left = count - at
        if left >= 32:
            found = levels_32(x, at, s, z, low, high, least, most, low, out, at)
        else:
            part[:left] = x[at:]
            found = levels_32(part, 0, s, z, low, high, least, most, low, row, 0)
            out[at:] = row[:left]
            found &= (np.uint64(1) << np.uint64(left)) - np.uint64(1) | ~np.uint64(0xFFFFFFFF)
        strange |= found >> np.uint64(32)
        if masked:
            mask[word] = np.uint32(found & np.uint64(0xFFFFFFFF))
    return strange != 0


@addressed(BYTES, BYTES, SIZE, SIZE, SIZE)
def join_halves(codes_, out_, count, first, last):  # type: ignore[no-untyped-def]
    """Write two codes of four bits to each byte, ``first`` to ``last``: the even one is lower."""
    whole = min(last, count // 2)
    given, out = carray(codes_, (count,))[2 * first :], carray(out_, (last,))[first:]
    for i in range(whole - first):
        out[i] = given[2 * i] | (given[2 * i + 1] << np.uint8(4))
    if last > whole:
        out[-1] = given[-1]


@addressed(BYTES, FLOAT, FLOAT, FLOAT, FLOATS, SIZE, SIZE)
def values(codes_, s, z, low, out_, first, last):  # type: ignore[no-untyped-def]
    """Write s (code + low - z)."""
    given, out = carray(codes_, (last,))[first:], carray(out_, (last,))[first:]
    for i in range(len(given)):
        out[i] = ((np.float32(given[i]) + low) - z) * s


@addressed(BYTES, FLOAT, FLOAT, FLOAT, FLOATS, SIZE, SIZE, SIZE)
def values_of_halves(codes_, s, z, low, out_, count, first, last):  # type: ignore[no-untyped-def]
    """As :func:`values`, of bytes ``first`` to ``last`` from :func:`join_halves`."""
    whole = min(last, count // 2)
    given, out = carray(codes_, (last,))[first:], carray(out_, (count,))[2 * first :]
    for i in range(whole - first):
        out[2 * i] = ((np.float32(given[i] & np.uint8(15)) + low) - z) * s
        out[2 * i + 1] = ((np.float32(given[i] >> np.uint8(4)) + low) - z) * s
    if last > whole:
        out[-1] = ((np.float32(given[-1]) + low) - z) * s


@addressed(FLOATS, FLOATS, FLOATS, FLOATS, FLOAT, FLOAT, SIZE, SIZE, SIZE)
def quantize_rows(  # type: ignore[no-untyped-def]
    w_, out_, steps_, zeros_, low, high, inner, first, last
):
    """Write the grid values of rows ``first`` to ``last``, which have a step and a zero each."""
    all_w, all_out = carray(w_, (last * inner,)), carray(out_, (last * inner,))
    steps, zeros = carray(steps_, (last,)), carray(zeros_, (last,))
    for r in range(first, last):
        w, out = all_w[r * inner : (r + 1) * inner], all_out[r * inner : (r + 1) * inner]
        s, z = steps[r], zeros[r]
        for i in range(inner):
            out[i] = (nearest(w[i] / s + z, low, high) - z) * s


@addressed(FLOATS, FLOATS, FLOATS, FLOATS, FLOAT, FLOAT, SIZE, SIZE, SIZE)
def clip_rows(  # type: ignore[no-untyped-def]
    w_, grad_, steps_, zeros_, least, most, inner, first, last
):
    """Multiply ``grad`` by 1[least <= v <= most]."""
    all_grad, all_w = carray(grad_, (last * inner,)), carray(w_, (last * inner,))
    steps, zeros = carray(steps_, (last,)), carray(zeros_, (last,))
    for r in range(first, last):
        grad, w = all_grad[r * inner : (r + 1) * inner], all_w[r * inner : (r + 1) * inner]
        s, z = steps[r], zeros[r]
        for i in range(inner):
            v = w[i] / s + z
            inside = (v >= least) & (v <= most)
            grad[i] *= np.float32(1) if inside else np.float32(0)
