"""Quantization with one learned step as compiled code: one pass forward, one pass backward."""

from __future__ import annotations

import numpy as np

from ste_lightning.kernels.jit.c_functions import DOUBLES, FLOAT, FLOATS, SIZE, addressed, carray
from ste_lightning.kernels.jit.compiling import inlined
from ste_lightning.kernels.jit.simd_rounding import ROUND, differentiate_32

__all__ = ["differentiate", "nearest", "quantize"]

_ROUND = np.float32(ROUND)


@inlined
def nearest(v, low, high):  # type: ignore[no-untyped-def]
    """Return round(clip(v, low, high)), a float."""
    v = low if v < low else v
    v = high if v > high else v
    return (v + _ROUND) - _ROUND


@addressed(FLOATS, FLOAT, FLOAT, FLOAT, FLOAT, FLOATS, SIZE, SIZE)
def quantize(x_, s, start, low, high, out_, first, last):  # type: ignore[no-untyped-def]
    """Write s round(clip((x - start) / s, low, high)) + start, elements ``first`` to ``last``."""
    x, out = carray(x_, (last,))[first:], carray(out_, (last,))[first:]
    for i in range(len(x)):  # from ``first`` on it would not become vectors
        out[i] = nearest((x[i] - start) / s, low, high) * s + start


@addressed(FLOATS, FLOATS, FLOAT, FLOAT, FLOAT, FLOAT, DOUBLES, SIZE, SIZE)
def differentiate(grad_, x_, s, start, low, high, total_, first, last):  # type: ignore[no-untyped-def]
    """Multiply ``grad`` by dy/dx = 1[low < v < high], v = (x - start) / s; sum it times dy/ds.

    dy/ds = round(v) - v inside, ``low`` or ``high`` outside; the products are those of float32,
    their sum is written to ``total``. ``grad`` and ``x`` must not overlap.
    """
    grad, x, total = carray(grad_, (last,)), carray(x_, (last,)), carray(total_, (1,))
    sums = np.zeros(32, np.float64)
    whole = first + (last - first) // 32 * 32
    for i in range(first, whole, 32):
        differentiate_32(grad, x, i, s, start, low, high, sums)
    if whole < last:
        part_of_grad, part_of_x = np.zeros(32, np.float32), np.zeros(32, np.float32)
        part_of_grad[: last - whole], part_of_x[: last - whole] = grad[whole:], x[whole:]
        differentiate_32(part_of_grad, part_of_x, 0, s, start, low, high, sums)
        grad[whole:] = part_of_grad[: last - whole]
    total[0] = sums.sum()
