"""Training on integer data by updated sums; see :mod:`ste_lightning.theory.large`."""

from __future__ import annotations

import numpy as np

from ste_lightning.kernels.jit.arrays import empty, zeros
from ste_lightning.kernels.jit.compiling import compiled, nested

__all__ = ["train"]

_ZERO = np.float32(0.0)


@nested
def _add(total, factor, values):  # type: ignore[no-untyped-def]
    """``total += factor * values``, int32 and int16. Sums may wrap on the way, and come back."""
    for i in range(len(total)):
        total[i] += np.int32(factor * np.int32(values[i]))


@compiled
def train(rows, columns, teacher, x, steps, step, total):  # type: ignore[no-untyped-def]
    """Train one student; return the first hit of the teacher (-1: never) and the flips.

    ``rows`` (N, n) and ``columns`` (n, N) are the same int16 data, ``teacher`` int32 signs,
    ``step`` the step size over N and the data's unit. Changed: ``x``, latent weights float32,
    and ``total``, int64, the sum of the binary iterates 1 to ``steps``.
    """
    samples, n = rows.shape
    sign = empty(n, np.int32)
    since = np.ones(n, np.int64)  # first counted iterate with the present sign
    student = zeros(samples, np.int32)
    label = zeros(samples, np.int32)
    g = empty(n, np.int32)
    away = 0
    for k in range(n):
        sign[k] = 1 if x[k] >= _ZERO else -1
        away += 1 if sign[k] != teacher[k] else 0
        _add(label, teacher[k], columns[k])
        _add(student, sign[k], columns[k])
    hit = 0 if away == 0 else -1
    flips = 0
    stale = True
    for t in range(1, steps + 1):
        if stale:
            g[:] = 0
            moving = False
            for i in range(samples):
                residual = np.int32(student[i] > 0) - np.int32(label[i] > 0)
                if residual != 0:
                    _add(g, residual, rows[i])
                    moving = True
            if not moving:
                break
            stale = False
        for k in range(n):
            x[k] -= step * np.float32(g[k])
            new = 1 if x[k] >= _ZERO else -1
            if new != sign[k]:
                stale = True
                flips += 1
                away += 1 if sign[k] == teacher[k] else -1
                total[k] += (t - since[k]) * sign[k]
                since[k] = t
                sign[k] = new
                _add(student, np.int32(2 * new), columns[k])
        if away == 0 and hit < 0:
            hit = t
    for k in range(n):
        total[k] += (steps + 1 - since[k]) * sign[k]
    return hit, flips
