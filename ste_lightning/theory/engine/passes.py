"""One pass over a trial's data: labels, residuals, loss and coarse gradient.

A trial's data are packed once into blocks of ``L`` samples (see
:mod:`ste_lightning.theory.engine.vector`); a pass then reads each block from the outer cache
once: pre-activations, prediction, residual, coefficients and the gradient's share, before the
next block.
"""

from __future__ import annotations

import numpy as np

from ste_lightning.kernels.compiling import compiled
from ste_lightning.theory.engine.derivatives import differentiate
from ste_lightning.theory.engine.families import WINDOW
from ste_lightning.theory.engine.vector import (
    TILE,
    accumulate,
    lane_sums,
    project,
    residual,
    weigh_window,
)

__all__ = ["coarse_gradient", "label", "pack"]

_ZERO = np.float32(0.0)
_ONE = np.float32(1.0)


@compiled
def pack(z, width, block):  # type: ignore[no-untyped-def]
    """Write Z (N, m, n) as blocks; samples past N are zero and have zero labels."""
    samples, m, n = z.shape
    lanes = width * m
    for b in range((samples + width - 1) // width):
        start = b * n * lanes
        for j in range(m):
            for k in range(n):
                cell = start + k * lanes + j * width
                for s in range(width):
                    i = b * width + s
                    block[cell + s] = z[i, j, k] if i < samples else _ZERO


@compiled
def _residual(block, start, n, m, width, w, v, y, first, a, r, squares):  # type: ignore[no-untyped-def]
    """Write the pre-activations (unscaled) to ``a`` and v^T step(a) - y to ``r``."""
    lanes = m * width
    for tile in range(lanes // TILE):
        project(block, start + tile * TILE, lanes, n, w, a, tile * TILE)
    residual(a, v, m, width, y, first, r, squares)


@compiled
def label(block, blocks, n, m, width, teacher, v, noise, a, r, squares, y):  # type: ignore[no-untyped-def]
    """Write y = v*^T step(Z w*) + noise, by the sums that the student uses.

    Labels made elsewhere may round a pre-activation near zero to the other side; then the
    residual at w = w* would not be exactly zero, and w* not absorbing.
    """
    y[:] = _ZERO
    for b in range(blocks):
        first = b * width
        _residual(block, first * n * m, n, m, width, teacher, v, y, first, a, r, squares)
        for s in range(width):
            i = first + s
            y[i] = r[s] + noise[i] if i < len(noise) else _ZERO


@compiled
def coarse_gradient(  # type: ignore[no-untyped-def]
    block, samples, blocks, n, m, width, w, v, y, family, p, a, d, r, squares, sums, g
):
    """Write the coarse gradient to ``g``; return the loss 1/(2N) sum_i r_i^2."""
    lanes = m * width
    scale = _ONE / np.sqrt(np.float32(n))
    sums[:] = _ZERO
    squares[:] = _ZERO
    for b in range(blocks):
        start = b * n * lanes
        _residual(block, start, n, m, width, w, v, y, b * width, a, r, squares)
        if family == WINDOW:
            weigh_window(a, scale, p, v, r, m, width, d)
        else:
            differentiate(family, p, a, scale, d, lanes)
            for j in range(m):
                for s in range(width):
                    d[j * width + s] *= v[j] * r[s]
        for tile in range(lanes // TILE):
            accumulate(block, start + tile * TILE, lanes, n, d, tile * TILE, sums, n * lanes)
    lane_sums(sums, n, _ONE / np.float32(samples), g)
    loss = np.float64(0.0)
    for s in range(width):
        loss += squares[s]
    return np.float32(loss / (2.0 * samples))
