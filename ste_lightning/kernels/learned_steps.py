"""Quantization with one learned step as compiled code: one pass forward, one pass backward."""

from __future__ import annotations

import numpy as np

from ste_lightning.kernels.compiling import compiled

__all__ = ["differentiate", "quantize"]

# x + c - c rounds to the nearest integer, half to even, as long as |x| < 2^22
_ROUND = np.float32(12582912)


@compiled
def quantize(all_x, s, start, low, high, all_out, first, last):  # type: ignore[no-untyped-def]
    """Write s round(clip((x - start) / s, low, high)) + start, elements ``first`` to ``last``."""
    x, out = all_x[first:last], all_out[first:last]
    for i in range(len(x)):
        v = (x[i] - start) / s
        v = low if v < low else v
        v = high if v > high else v
        out[i] = ((v + _ROUND) - _ROUND) * s + start


@compiled
def differentiate(all_grad, all_x, s, start, low, high, all_by_s, first, last):  # type: ignore[no-untyped-def]
    """Multiply ``grad`` by dy/dx = 1[low < v < high], v = (x - start) / s; write it times dy/ds.

    dy/ds = round(v) - v inside, ``low`` or ``high`` outside. The arrays must not overlap.
    """
    grad, x, by_s = all_grad[first:last], all_x[first:last], all_by_s[first:last]
    for i in range(len(x)):
        v = (x[i] - start) / s
        c = low if v < low else v
        c = high if c > high else c
        inside = np.float32(1) if (v > low) & (v < high) else np.float32(0)
        by_s[i] = grad[i] * (((c + _ROUND) - _ROUND) - inside * c)
        grad[i] *= inside
