"""The backward rules that the compiled kernel knows, as families with up to five parameters each.

==============  =====================================================  =========================
family          f'(x)                                                  rules
==============  =====================================================  =========================
``WINDOW``      p2 if p0 < x < p1 else p3                              identity, relu,
                                                                       clipped_relu, clipped,
                                                                       leaky
``TRIANGLE``    max(p0 - p1 |x|, 0)                                    triangular, approx
``BELL``        4 p0 e / (1 + e)^2 with e = exp(-p1 |x|)               tanh, ede, sigmoid
``GAUSS``       p0 exp(-p1 x^2)                                        gaussian
``CAUCHY``      p0 / (1 + p1 x^2)                                      arctan
``SPIKE``       1 / (1 + p0 |x|)^2                                     superspike
``SWISH``       p0 (2 - z tanh(z/2)) 2 e / (1 + e)^2, z = p0 |x|       swish
``POWER``       p3 if |x| <= p2, p1 |x|^p0 if |x| <= p4, else 0        reste
==============  =====================================================  =========================
"""

from __future__ import annotations

import math

import numpy as np

from ste_lightning.kernels.jit.compiling import inlined, spliced
from ste_lightning.theory.engine.families import (
    BELL,
    CAUCHY,
    GAUSS,
    SPIKE,
    SWISH,
    TRIANGLE,
    WINDOW,
)

__all__ = ["differentiate"]

_ONE = np.float32(1.0)
_TWO = np.float32(2.0)
_FOUR = np.float32(4.0)
_ZERO = np.float32(0.0)
_LOG2_E = np.float32(1 / math.log(2))
_LN2_HIGH = np.float32(0.693359375)
_LN2_LOW = np.float32(math.log(2) - 0.693359375)
_HALF = np.float32(0.5)
_SMALLEST = np.float32(-87.0)
_E = [np.float32(1 / math.factorial(i)) for i in range(8)]
_E3, _E4, _E5, _E6, _E7 = _E[3], _E[4], _E[5], _E[6], _E[7]


@inlined
def _exp(x):  # type: ignore[no-untyped-def]
    """Return exp(x) for x <= 0, to 1e-7 relative; written so that LLVM vectorizes it.

    x = k ln 2 + f with |f| <= ln(2)/2; Taylor's series in f, and the exponent k by its bits.
    """
    x = max(x, _SMALLEST)
    k = np.int32(x * _LOG2_E - _HALF)
    f = x - np.float32(k) * _LN2_HIGH - np.float32(k) * _LN2_LOW
    series = _E6 + f * _E7
    series = _E5 + f * series
    series = _E4 + f * series
    series = _E3 + f * series
    series = _ONE + f * (_ONE + f * (_HALF + f * series))
    return series * np.int32((k + np.int32(127)) << np.int32(23)).view(np.float32)


@spliced
def differentiate(family, p, x, scale, out, count):  # type: ignore[no-untyped-def]
    """Write ``f'(scale * x[i])`` to ``out[i]`` for ``i < count``."""
    p0, p1, p2, p3 = p[0], p[1], p[2], p[3]
    if family == WINDOW:
        for i in range(count):
            a = x[i] * scale
            out[i] = p2 if (a > p0) & (a < p1) else p3
    elif family == TRIANGLE:
        for i in range(count):
            out[i] = max(p0 - p1 * abs(x[i] * scale), _ZERO)
    elif family == BELL:
        for i in range(count):
            e = _exp(-p1 * abs(x[i] * scale))
            out[i] = _FOUR * p0 * e / ((_ONE + e) * (_ONE + e))
    elif family == GAUSS:
        for i in range(count):
            a = x[i] * scale
            out[i] = p0 * _exp(-p1 * a * a)
    elif family == CAUCHY:
        for i in range(count):
            a = x[i] * scale
            out[i] = p0 / (_ONE + p1 * a * a)
    elif family == SPIKE:
        for i in range(count):
            d = _ONE + p0 * abs(x[i] * scale)
            out[i] = _ONE / (d * d)
    elif family == SWISH:
        for i in range(count):
            z = p0 * abs(x[i] * scale)
            e = _exp(-z)
            q = _ONE + e
            out[i] = p0 * (_TWO - z * (_ONE - e) / q) * _TWO * e / (q * q)
    else:
        cut = p[4]
        for i in range(count):
            a = abs(x[i] * scale)
            out[i] = _ZERO
            if a <= p2:
                out[i] = p3
            elif a <= cut:
                out[i] = p1 * a**p0
