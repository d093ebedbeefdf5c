"""Ternary and tanh-bounded weights as compiled code. Loops run from 0 over parts of arrays."""

from __future__ import annotations

import numpy as np

from ste_lightning.kernels.jit.c_functions import FLOAT, FLOATS, SIZE, addressed, carray
from ste_lightning.kernels.jit.simd_rounding import ROUND

__all__ = ["differentiate_tanh", "quantize_tanh", "trit_rows"]

_ROUND = np.float32(ROUND)


@addressed(*[FLOATS] * 4, SIZE, SIZE, SIZE)
def trit_rows(w_, out_, thresholds_, scales_, inner, first, last):  # type: ignore[no-untyped-def]
    """Write a sign(w) 1[|w| > D] of rows ``first`` to ``last``, which have D and a each."""
    all_w, all_out = carray(w_, (last * inner,)), carray(out_, (last * inner,))
    thresholds, scales = carray(thresholds_, (last,)), carray(scales_, (last,))
    for r in range(first, last):
        w, out = all_w[r * inner : (r + 1) * inner], all_out[r * inner : (r + 1) * inner]
        d, a = thresholds[r], scales[r]
        for i in range(inner):
            v = w[i]
            positive = a if v > d else v * np.float32(0)  # NaN stays
            out[i] = -a if v < -d else positive


@addressed(FLOATS, FLOATS, FLOAT, FLOAT, SIZE, SIZE)
def quantize_tanh(t_, out_, bound, n, first, last):  # type: ignore[no-untyped-def]
    """Write (2 round(n (t / bound + 1/2)) - n) / n."""
    t, out = carray(t_, (last,))[first:], carray(out_, (last,))[first:]
    for i in range(len(t)):
        u = (t[i] / bound + np.float32(0.5)) * n
        out[i] = (np.float32(2) * ((u + _ROUND) - _ROUND) - n) / n


@addressed(FLOATS, FLOATS, FLOAT, FLOAT, SIZE, SIZE)
def differentiate_tanh(grad_, t_, bound, n, first, last):  # type: ignore[no-untyped-def]
    """Multiply ``grad`` by 2 (1 - t^2) / bound, rounded as autograd does step by step."""
    grad, t = carray(grad_, (last,))[first:], carray(t_, (last,))[first:]
    for i in range(len(t)):
        g = grad[i] / n * np.float32(2) * n / bound
        grad[i] = g * (np.float32(1) - t[i] * t[i])
