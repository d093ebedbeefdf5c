"""Online descent of a quantized linear model; see :mod:`ste_lightning.theory.linear`."""

from __future__ import annotations

import numpy as np

from ste_lightning.kernels.jit.arrays import empty
from ste_lightning.kernels.jit.compiling import compiled, nested

__all__ = ["descend"]

_ZERO, _HALF = np.float32(0.0), np.float32(0.5)


@nested
def _level(x, per, top):  # type: ignore[no-untyped-def]
    """The nearest level of x in units of half a spacing: an odd number from -top to top."""
    place = x * per + (top + np.float32(1.0)) * _HALF
    place = min(max(place, _ZERO), top + _HALF)
    return np.int32(2) * np.int32(place) - np.int32(top)


@compiled
def descend(w, inputs, labels, weight_per, input_per, top, unit, step):  # type: ignore[no-untyped-def]
    """Take one step of descent for every row of ``inputs`` (float32), with its label.

    ``w`` (float32) is changed. ``weight_per`` and ``input_per`` are levels per unit of weight and
    of input, ``top`` the levels less one, ``unit`` the output of a product of two half spacings,
    ``step`` the change of a weight per unit of error and half spacing of the input.
    """
    count, n = inputs.shape
    level = empty(n, np.int32)
    x = empty(n, np.int32)
    for i in range(n):
        level[i] = _level(w[i], weight_per, top)
    for k in range(count):
        row = inputs[k]
        total = np.int32(0)
        for i in range(n):
            x[i] = _level(row[i], input_per, top)
            total += level[i] * x[i]
        change = step * (unit * np.float32(total) - labels[k])
        for i in range(n):
            w[i] -= change * np.float32(x[i])
            level[i] = _level(w[i], weight_per, top)
