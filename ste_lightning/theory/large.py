"""Large n: the same training for m = 1 and the identity, with integer data and updated sums.

At n = 1000 the last iterate needs 60 000 samples, and reading all of them in every step takes
minutes a trial. Two facts make most of it unnecessary: few signs flip in a step, so of Z w only
their columns change; and few samples are still wrong, so the gradient is a sum of few rows. With
data that are integers both sums are exact, and updating gives the bits that recomputing would.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ste_lightning.errors import require
from ste_lightning.models.streams import Stream, generator, normal

__all__ = ["train_large"]

_UNIT = 4096  # grid points between 0 and 1; int16 then holds |z| < 8
_ROWS = 256  # drawn at once


def train_large(
    *,
    n: int,
    samples: int,
    trials: int = 24,
    steps: int = 2000,
    lr: float = 1.0,
    init_scale: float = 0.1,
    seed: int = 0,
) -> dict[str, list[Any]]:
    r"""Train students y = step(z^T w), w = sign(x) / sqrt(n), on a planted teacher.

    The update is x <- x - lr g with :math:`g = \frac1N \sum_i z_i r_i`, as in
    :func:`ste_lightning.theory.simulate` with ``m=1`` and ``rule="identity"``, from the same
    teachers, starts and data; but the data are rounded to multiples of 1/4096.

    Args:
        n: inputs.
        samples: N. A trial needs 4 N n bytes.
        trials: independent problems.
        steps: T.
        lr: step size.
        init_scale: standard deviation of x_0.
        seed: of everything random.

    Returns:
        Columns ``trial``, ``last`` (w_T = w*), ``ergodic`` (sign of the averaged iterate),
        ``first_hit`` (-1: never), ``distance`` (wrong signs at the end), ``flips``.
    """
    sizes = {"n": n, "samples": samples, "trials": trials, "steps": steps}
    for argument, value in sizes.items():
        require(value > 0, argument, value, "use a positive integer")
    for argument, size in {"lr": lr, "init_scale": init_scale}.items():
        require(size > 0, argument, size, "use a positive number")
    from ste_lightning.theory.engine.updates import train

    starts = init_scale * normal(seed, Stream.WEIGHT, trials, n)
    columns: dict[str, list[Any]] = {
        name: [] for name in ("trial", "last", "ergodic", "first_hit", "distance", "flips")
    }
    for trial in range(trials):
        teacher = generator(seed, Stream.TEACHER, trial).choice([-1, 1], n).astype(np.int32)
        rows, by_column = _draw(seed, trial, samples, n)
        latent = starts[trial].numpy()
        total = np.zeros(n, np.int64)
        step = np.float32(lr / (samples * _UNIT))
        hit, flips = train(rows, by_column, teacher, latent, steps, step, total)
        del rows, by_column  # before the next trial's are drawn
        wrong = int(((latent >= 0) != (teacher > 0)).sum())
        columns["trial"].append(trial)
        columns["last"].append(wrong == 0)
        columns["ergodic"].append(bool(((total >= 0) == (teacher > 0)).all()))
        columns["first_hit"].append(hit)
        columns["distance"].append(wrong)
        columns["flips"].append(flips)
    return columns


def _draw(seed: int, trial: int, samples: int, n: int) -> tuple[NDArray[np.int16], ...]:
    """Return the trial's inputs in units of 1/4096, as (N, n) and as (n, N)."""
    rng = generator(seed, Stream.INPUTS, trial)
    rows, columns = np.empty((samples, n), np.int16), np.empty((n, samples), np.int16)
    limit = np.iinfo(np.int16).max
    for first in range(0, samples, _ROWS):
        part = rng.standard_normal((min(_ROWS, samples - first), n), dtype=np.float32)
        rows[first : first + _ROWS] = (part * _UNIT).round().clip(-limit, limit)
        columns[:, first : first + _ROWS] = rows[first : first + _ROWS].T
    return rows, columns
