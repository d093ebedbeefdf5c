"""A linear model with quantized weights and inputs, trained online: simulated, and predicted.

The teacher is y = x^T w* / sqrt(n) + noise with w* = (1, ..., 1), which for odd quantizers and a
symmetric start is as good as any signs; the student is Q(w)^T q(x) / sqrt(n). Every step has a
fresh x ~ N(0, I). :mod:`ste_lightning.theory.linear_limit` derives what happens for large n.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ste_lightning.errors import require
from ste_lightning.models.streams import Stream, generator
from ste_lightning.theory.linear_limit import Levels, Limit, input_moments, limit

__all__ = ["kolmogorov_smirnov", "train_linear"]

_ROWS = 300  # inputs drawn at once
_POINTS = 200  # of the curves that are kept
_SNAPSHOTS = (0.125, 0.25, 0.5, 1.0)  # of the whole time, when densities are compared
_BINS = 240


@dataclasses.dataclass(frozen=True)
class _Run:
    """One simulated student: its error at every point, and its weights at every snapshot."""

    error: list[float]
    weights: list[NDArray[np.float32]]


def train_linear(
    *,
    n: int,
    bits: int = 2,
    range: float = 1.0,
    input_range: float = 2.0,
    lr: float = 0.05,
    time: float = 3.0,
    noise: float = 0.0,
    init_scale: float = 0.05,
    trials: int = 8,
    seed: int = 0,
) -> dict[str, list[Any]]:
    r"""Train students online by straight-through descent, and solve the equations of large n.

    .. math:: w \leftarrow w - \frac{\eta}{\sqrt n} (f - y) q(x),
              \quad f = \tfrac1{\sqrt n} Q(w)^T q(x)

    Args:
        n: weights.
        bits: of weights and of inputs, 1 to 8: 2^bits equidistant levels from -range to range.
        range: of the weights' quantizer.
        input_range: of the inputs' quantizer.
        lr: step size.
        time: how long: lr times steps over n.
        noise: standard deviation of the label noise.
        init_scale: standard deviation of the latent weights at the start, Gaussian.
        trials: independent students.
        seed: of everything random.

    Returns:
        Columns ``trial``; ``times`` (of the curves' points); ``error``, the expected squared error
        over fresh inputs at them, exact given the weights; ``predicted``, the same by the
        equations; ``snapshots``, times; ``edges``, ``density`` and ``density_predicted``: shares of
        all trials' latent weights between edges at each snapshot; ``distance``: the
        Kolmogorov-Smirnov distance there. What belongs to all trials stands in the row of each.
    """
    for argument, value in {"n": n, "trials": trials}.items():
        require(value > 0, argument, value, "use a positive integer")
    require(1 <= bits <= 8, "bits", bits, "use 1 to 8")
    positive = {"range": range, "input_range": input_range, "lr": lr, "time": time}
    for argument, size in positive.items():
        require(size > 0, argument, size, "use a positive number")
    weights, inputs = Levels(bits, range), Levels(bits, input_range)
    points = np.linspace(0.0, time, _POINTS + 1)
    shots = [time * part for part in _SNAPSHOTS]
    expected = limit(
        weights, inputs, lr=lr, time=points, snapshots=shots, noise=noise, init_scale=init_scale
    )
    steps = np.rint(points * n / lr).astype(int)
    runs = [
        _simulate(weights, inputs, n, lr, steps, noise, init_scale, seed, trial)
        for trial in _numbers(trials)
    ]
    together = [
        np.sort(np.concatenate(parts)) for parts in zip(*(r.weights for r in runs), strict=True)
    ]
    edges = np.linspace(expected.edges[0], expected.edges[-1], _BINS + 1)
    cumulative = [np.interp(edges, expected.edges, c) for c in expected.cumulative]
    shared = {
        "times": points.tolist(),
        "predicted": expected.error,
        "snapshots": shots,
        "edges": edges.tolist(),
        "density": [(np.histogram(w, edges)[0] / len(w)).tolist() for w in together],
        "density_predicted": [np.diff(c).tolist() for c in cumulative],
        "distance": [kolmogorov_smirnov(w, expected, k) for k, w in enumerate(together)],
    }
    columns: dict[str, list[Any]] = {
        "trial": _numbers(trials),
        "error": [run.error for run in runs],
    }
    return columns | {name: [value] * trials for name, value in shared.items()}


def _numbers(count: int) -> list[int]:
    return list(np.arange(count).tolist())  # range is an argument here


def kolmogorov_smirnov(sample: NDArray[np.float32], expected: Limit, snapshot: int) -> float:
    """Return the largest difference of two distribution functions.

    Args:
        sample: sorted numbers.
        expected: predicted densities.
        snapshot: which of them.
    """
    below = np.interp(sample, expected.edges, expected.cumulative[snapshot])
    rank = np.arange(1, len(sample) + 1) / len(sample)
    return float(max((rank - below).max(), (below - rank + 1 / len(sample)).max()))


def _simulate(
    weights: Levels,
    inputs: Levels,
    n: int,
    lr: float,
    points: NDArray[np.int_],
    noise: float,
    init_scale: float,
    seed: int,
    trial: int,
) -> _Run:
    from ste_lightning.theory.engine.online import descend

    rng = generator(seed, Stream.WEIGHT, trial)
    w = (init_scale * rng.standard_normal(n)).astype(np.float32)
    rng = generator(seed, Stream.INPUTS, trial)
    # torch draws normal numbers three times as fast as numpy, and they are most of the time
    source = torch.Generator().manual_seed(int(rng.integers(2**62)))
    unit = weights.spacing * inputs.spacing / 4 / math.sqrt(n)
    step = lr / math.sqrt(n) * inputs.spacing / 2
    numbers = (1 / weights.spacing, 1 / inputs.spacing, weights.top, unit, step)
    constants = [np.float32(number) for number in numbers]
    moments, rows = input_moments(inputs), torch.empty(_ROWS, n)
    shots = {round(part * points[-1]) for part in _SNAPSHOTS}
    stops = sorted({*points.tolist(), *shots})
    run, errors, done, drawn = _Run([], []), {}, 0, _ROWS
    labels = np.empty(_ROWS, np.float32)
    for stop in stops:
        while done < stop:
            if drawn == _ROWS:
                rows.normal_(generator=source)
                labels = (rows.sum(1, dtype=torch.float64).numpy() / math.sqrt(n)).astype("f4")
                if noise:
                    labels += (noise * rng.standard_normal(_ROWS)).astype("f4")
                drawn = 0
            count = min(stop - done, _ROWS - drawn)
            part = slice(drawn, drawn + count)
            descend(w, rows.numpy()[part], labels[part], *constants)
            done, drawn = done + count, drawn + count
        errors[stop] = moments.error(weights(w), np.full(n, 1 / n), noise)
        if stop in shots:
            run.weights.append(w.copy())
    run.error.extend(errors[point] for point in points.tolist())
    return run
