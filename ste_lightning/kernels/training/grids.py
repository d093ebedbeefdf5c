"""Grids of equally spaced values as compiled code: floats to codes, values, derivatives and back.

A level is round(clip(v, low, high)) with v = (x - b) / s + z; it stands for s (level - z) + b, and
its code is level - low. Rows of equal length have a step s, a zero point z and a start b each.
Loops run from 0 over parts of arrays: from ``first`` on they do not become vectors.
"""

from __future__ import annotations

import numpy as np

from ste_lightning.kernels.jit.arrays import as_int32, zeros
from ste_lightning.kernels.jit.c_functions import (
    BYTES,
    DOUBLES,
    FLAG,
    FLOAT,
    FLOATS,
    SIZE,
    WORDS,
    addressed,
    carray,
)
from ste_lightning.kernels.jit.compiling import inlined
from ste_lightning.kernels.jit.simd import copy
from ste_lightning.kernels.jit.simd_rounding import ROUND, differentiate_32, levels_32

__all__ = [
    *("clip_rows", "codes", "differentiate_rows", "join_halves", "nearest", "quantize_rows"),
    *("token_codes", "values", "values_of_halves", "values_of_tokens"),
]

_ROUND = np.float32(ROUND)


@inlined
def nearest(v, low, high):  # type: ignore[no-untyped-def]
    """Return round(clip(v, low, high)), a float."""
    v = low if v < low else v
    v = high if v > high else v
    return (v + _ROUND) - _ROUND


@addressed(FLOATS, *[FLOAT] * 6, BYTES, WORDS, FLAG, SIZE, SIZE, SIZE, returns=SIZE)
def codes(  # type: ignore[no-untyped-def]
    x_, s, z, low, high, least, most, out_, mask_, masked, count, first, last
):
    """Write the codes of words ``first`` to ``last`` of 32 elements; return whether one is NaN.

    b is 0. ``mask`` gets, if ``masked``, the bits of least <= v <= most, zeros after ``count``
    elements.
    """
    x, out, mask = carray(x_, (count,)), carray(out_, (count,)), carray(mask_, (last,))
    part, row = zeros(32, np.float32), zeros(32, np.uint8)
    strange = np.uint64(0)
    for word in range(first, last):
        at = 32 * word
        left = count - at
        if left >= 32:
            found = levels_32(x, at, s, z, low, high, least, most, low, out, at)
        else:
            copy(x, at, part, 0, left)
            found = levels_32(part, 0, s, z, low, high, least, most, low, row, 0)
            copy(row, 0, out, at, left)
            found &= (np.uint64(1) << np.uint64(left)) - np.uint64(1) | ~np.uint64(0xFFFFFFFF)
        strange |= found >> np.uint64(32)
        if masked:
            mask[word] = np.uint32(found & np.uint64(0xFFFFFFFF))
    return strange != 0


@addressed(FLOATS, FLOAT, FLOATS, BYTES, SIZE, SIZE, SIZE, returns=SIZE)
def token_codes(x_, high, steps_, out_, inner, first, last):  # type: ignore[no-untyped-def]
    """Write a step max(max|x|, 1e-5) / high and the codes of each row; return whether one is NaN.

    low is -high - 1, z and b are 0.
    """
    all_x, all_out = carray(x_, (last * inner,)), carray(out_, (last * inner,))
    steps = carray(steps_, (last,))
    part, row = zeros(32, np.float32), zeros(32, np.uint8)
    zero, low, strange = np.float32(0), -high - np.float32(1), np.uint64(0)
    whole = inner // 32 * 32
    for r in range(first, last):
        x, out = all_x[r * inner : (r + 1) * inner], all_out[r * inner : (r + 1) * inner]
        most = np.float32(1e-5)
        bits = as_int32(x)
        largest = np.int32(0)
        for i in range(inner):  # magnitudes of floats are ordered as their bits are
            largest = max(largest, bits[i] & np.int32(0x7FFFFFFF))
        as_int32(part)[0] = largest
        found = part[0]
        if not found <= most:  # NaN too
            most = found
        part[0] = zero
        s = most / high
        steps[r] = s
        if not s < np.float32(np.inf):
            return 1
        for i in range(0, whole, 32):
            strange |= levels_32(x, i, s, zero, low, high, low, high, low, out, i)
        if whole < inner:
            copy(x, whole, part, 0, inner - whole)
            strange |= levels_32(part, 0, s, zero, low, high, low, high, low, row, 0)
            copy(row, 0, out, whole, inner - whole)
    return strange >> np.uint64(32) != 0


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


@addressed(BYTES, FLOATS, FLOAT, FLOATS, SIZE, SIZE, SIZE)
def values_of_tokens(codes_, steps_, low, out_, inner, first, last):  # type: ignore[no-untyped-def]
    """Write s (code + low) of rows ``first`` to ``last``, which have a step each."""
    given, out = carray(codes_, (last * inner,)), carray(out_, (last * inner,))
    steps = carray(steps_, (last,))
    for r in range(first, last):
        row, to, s = given[r * inner : (r + 1) * inner], out[r * inner : (r + 1) * inner], steps[r]
        for i in range(inner):
            to[i] = (np.float32(row[i]) + low) * s


@addressed(*[FLOATS] * 5, FLOAT, FLOAT, SIZE, SIZE, SIZE)
def quantize_rows(  # type: ignore[no-untyped-def]
    w_, out_, steps_, zeros_, starts_, low, high, inner, first, last
):
    """Write the grid values of rows ``first`` to ``last``."""
    all_w, all_out = carray(w_, (last * inner,)), carray(out_, (last * inner,))
    steps, zeros, starts = (
        carray(steps_, (last,)),
        carray(zeros_, (last,)),
        carray(starts_, (last,)),
    )
    for r in range(first, last):
        w, out = all_w[r * inner : (r + 1) * inner], all_out[r * inner : (r + 1) * inner]
        s, z, b = steps[r], zeros[r], starts[r]
        for i in range(inner):
            out[i] = (nearest((w[i] - b) / s + z, low, high) - z) * s + b


@addressed(FLOATS, FLOATS, FLOATS, FLOATS, FLOAT, FLOAT, SIZE, SIZE, SIZE)
def clip_rows(  # type: ignore[no-untyped-def]
    w_, grad_, steps_, zeros_, least, most, inner, first, last
):
    """Multiply ``grad`` by 1[least <= v <= most]; b is 0."""
    all_grad, all_w = carray(grad_, (last * inner,)), carray(w_, (last * inner,))
    steps, zeros = carray(steps_, (last,)), carray(zeros_, (last,))
    for r in range(first, last):
        grad, w = all_grad[r * inner : (r + 1) * inner], all_w[r * inner : (r + 1) * inner]
        s, z = steps[r], zeros[r]
        for i in range(inner):
            v = w[i] / s + z
            inside = (v >= least) & (v <= most)
            grad[i] *= np.float32(1) if inside else np.float32(0)


@addressed(*[FLOATS] * 4, FLOAT, FLOAT, DOUBLES, SIZE, SIZE, SIZE)
def differentiate_rows(  # type: ignore[no-untyped-def]
    grad_, x_, steps_, starts_, low, high, totals_, inner, first, last
):
    """Multiply ``grad`` by dy/dx = 1[low < v < high]; sum it times dy/ds and dy/db for each row.

    dy/ds = round(v) - v inside, ``low`` or ``high`` outside, dy/db = 1 outside, z is 0; the
    products are those of float32. A row has two totals. ``grad`` and ``x`` must not overlap.
    """
    all_grad, all_x = carray(grad_, (last * inner,)), carray(x_, (last * inner,))
    steps, starts, totals = (
        carray(steps_, (last,)),
        carray(starts_, (last,)),
        carray(totals_, (2 * last,)),
    )
    sums = zeros(64, np.float64)
    part_of_grad, part_of_x = zeros(32, np.float32), zeros(32, np.float32)
    whole = inner // 32 * 32
    for r in range(first, last):
        grad, x = all_grad[r * inner : (r + 1) * inner], all_x[r * inner : (r + 1) * inner]
        s, start = steps[r], starts[r]
        sums[:] = 0
        for i in range(0, whole, 32):
            differentiate_32(grad, x, i, s, start, low, high, sums)
        if whole < inner:
            left = inner - whole
            part_of_grad[:] = 0
            copy(x, whole, part_of_x, 0, left)
            copy(grad, whole, part_of_grad, 0, left)
            differentiate_32(part_of_grad, part_of_x, 0, s, start, low, high, sums)
            copy(part_of_grad, 0, grad, whole, left)
        totals[2 * r], totals[2 * r + 1] = sums[:32].sum(), sums[32:].sum()
