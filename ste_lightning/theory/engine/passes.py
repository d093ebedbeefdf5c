"""One pass over a trial's data: labels, residuals, loss and coarse gradient.

Sums over samples are kept in sixteen strands: sample s belongs to strand s mod 16, and strands
are added at the end only. So the data can be walked in two halves of eight strands, a vector
each. They are packed once, in units: ``width`` samples of one half, all their m rows, as whole
tiles (:mod:`ste_lightning.theory.engine.vector`); the first half's units, then the second's. A
pass reads every unit from the outer cache once.
"""

from __future__ import annotations

import numpy as np

from ste_lightning.kernels.jit.arrays import empty
from ste_lightning.kernels.jit.compiling import inlined, nested, spliced
from ste_lightning.theory.engine.coefficients import residual, weigh, window_tile
from ste_lightning.theory.engine.derivatives import differentiate
from ste_lightning.theory.engine.families import WINDOW
from ste_lightning.theory.engine.vector import (
    LANES,
    TILE,
    accumulate,
    accumulate_and_project,
    gather,
    project,
    strand_sums,
)

__all__ = ["coarse_gradient", "label", "pack"]

_ZERO = np.float32(0.0)
_ONE = np.float32(1.0)


@inlined
def _sample(u, s, units, width):  # type: ignore[no-untyped-def]
    """Return the number of the sample at place ``s`` of unit ``u``."""
    half, b = divmod(u, units // 2)
    return 2 * (b * width + s - s % LANES) + half * LANES + s % LANES


@nested
def pack(z, units, width, data):  # type: ignore[no-untyped-def]
    """Write Z (N, m, n) as tiles; samples past N are zero."""
    samples, m, n = z.shape
    flat = z.reshape(-1)
    rows = empty(m * width, np.int64)
    for u in range(units):
        start = u * len(rows) * n
        for s in range(width):
            i = _sample(u, s, units, width)
            for j in range(m):
                rows[j * width + s] = i * m + j if i < samples else 0
        for lane in range(0, len(rows), TILE):
            gather(flat, rows, lane, n, data, start + lane * n)
        for s in range(width):
            if _sample(u, s, units, width) >= samples:
                for j in range(m):
                    tile, lane = divmod(j * width + s, TILE)
                    for k in range(n):
                        data[start + (tile * n + k) * TILE + lane] = _ZERO


@inlined
def label(data, units, n, m, width, teacher, v, noise, a, r, squares, y):  # type: ignore[no-untyped-def]
    """Write y = v*^T step(Z w*) + noise in the units' order; zero for samples past N.

    Computed by the sums that the student uses: labels made elsewhere may round a pre-activation
    near zero to the other side; then the residual at w = w* would not be exactly zero, and w*
    not absorbing.
    """
    tiles = m * width // TILE
    y[:] = _ZERO
    for u in range(units):
        for tile in range(tiles):
            project(data, (u * tiles + tile) * n * TILE, n, teacher, a, tile * TILE)
        residual(a, v, m, width, y, u * width, r, squares, 0)
        for s in range(width):
            i = _sample(u, s, units, width)
            y[u * width + s] = r[s] + noise[i] if i < len(noise) else _ZERO


@spliced
def coarse_gradient(  # type: ignore[no-untyped-def]
    data, samples, units, n, m, width, w, v, y, family, p, a, c, r, squares, sums, g
):
    """Write the coarse gradient to ``g``; return the loss 1/(2N) sum_i r_i^2."""
    tiles = m * width // TILE
    scale = _ONE / np.sqrt(np.float32(n))
    sums[:] = _ZERO
    squares[:] = _ZERO
    for tile in range(tiles):
        project(data, tile * n * TILE, n, w, a, tile * TILE)
    for u in range(units):
        half = u // (units // 2)
        if family == WINDOW and tiles == 1:
            window_tile(a, scale, p, v, y, u * width, m, squares, half * width, c)
        else:
            residual(a, v, m, width, y, u * width, r, squares, half * width)
            differentiate(family, p, a, scale, c, m * width)
            weigh(c, v, r, m, width)
        to = half * n * LANES
        for tile in range(tiles):
            here = (u * tiles + tile) * n * TILE
            if u + 1 < units:
                later = here + tiles * n * TILE
                accumulate_and_project(data, here, later, n, c, tile * TILE, sums, to, w, a)
            else:
                accumulate(data, here, n, c, tile * TILE, sums, to)
    strand_sums(sums, n, _ONE / np.float32(samples), g)
    loss = np.float64(0.0)
    for first in range(0, width, LANES):
        for half in range(2):
            for s in range(first, first + LANES):
                loss += squares[half * width + s]
    return np.float32(loss / (2.0 * samples))
