"""The quantized linear model: simulation against the macroscopic equations."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ste_lightning.theory.estimates import Estimate
from ste_lightning.theory.linear_limit import Levels, input_moments, plateau
from ste_lightning.theory.studies.runner import Result

__all__ = ["Agreement", "agreements", "linear_rows"]

Array = NDArray[np.float64]

_REPLICATES = 400


@dataclasses.dataclass(frozen=True)
class Agreement:
    """One cell, simulated and predicted.

    Attributes:
        n, bits, range: of the cell.
        time: points of the curves.
        error: of every trial at them, (trials, points).
        predicted: by the equations.
        deviation: root mean square over time of the mean error's relative deviation.
        agree: share of the points where that is at most 3 % or 3 standard errors.
        distance: largest Kolmogorov-Smirnov distance of the snapshots.
        band: by how much sampling alone moves it, 95 %: 1.36 / sqrt(weights).
        plateau: time from 0 to the first positive threshold, closed form.
        drop: time at which the error has done half of its fall from the plateau to the end, seen.
        drop_predicted: by the equations.
        steepening: how much faster it falls around the end of the plateau than on it.
    """

    n: int
    bits: int
    range: float
    time: Array
    error: Array
    predicted: Array
    deviation: Estimate
    agree: float
    distance: float
    band: float
    plateau: float
    drop: Estimate | None
    drop_predicted: float
    steepening: Estimate | None


def agreements(results: Sequence[Result]) -> list[Agreement]:
    """Return every cell's, in the order given."""
    return [_agreement(result) for result in results]


def _agreement(r: Result) -> Agreement:
    error = np.array(r.columns["error"])
    time, predicted = (np.array(r.columns[name][0]) for name in ("times", "predicted"))
    generator = torch.Generator().manual_seed(0)
    picked = torch.randint(len(error), (_REPLICATES, len(error)), generator=generator).numpy()
    curves = np.concatenate([error.mean(0)[None], error[picked].mean(1)])
    deviation = np.sqrt(np.square(curves / predicted - 1).mean(1))
    off = np.abs(curves[0] - predicted)
    standard = error.std(0, ddof=1) / math.sqrt(len(error))
    bits, width = int(r.settings["bits"]), float(r.settings["range"])
    inputs = input_moments(Levels(bits, float(r.settings.get("input_range", 2.0))))
    end = plateau(Levels(bits, width), inputs)
    # The error with all weights at the lowest positive level, and what remains at the end.
    lowest = np.array([width / (2**bits - 1)])
    before = inputs.error(lowest, np.ones(1), float(r.settings.get("noise", 0.0)))
    half = (before + predicted[-1]) / 2
    # With more bits there is a stair of plateaus, and no one drop.
    falls = bits == 2 and end < time[-1] and before > 1.05 * predicted[-1]
    return Agreement(
        int(r.settings["n"]),
        bits,
        width,
        time,
        error,
        predicted,
        _with_value(_estimate(deviation)),
        float(((off <= 0.03 * predicted) | (off <= 3 * standard)).mean()),
        max(r.columns["distance"][0]),
        1.36 / math.sqrt(len(error) * int(r.settings["n"])),
        end,
        _estimate(np.array([_reached(time, c, half) for c in curves])) if falls else None,
        _reached(time, predicted, half) if falls else math.nan,
        _estimate(np.array([_steeper(time, c, end) for c in curves])) if falls else None,
    )


def _estimate(values: Array) -> Estimate:
    """Return the first value, with the others as replicates."""
    sample = torch.from_numpy(values[1:])
    low, high = (float(sample.quantile(q)) for q in (0.025, 0.975))
    return Estimate(float(values[0]), low, high, sample)


def _with_value(estimate: Estimate) -> Estimate:
    """Let the interval reach down to the value: resampling only adds to a root mean square."""
    return dataclasses.replace(estimate, low=min(estimate.low, estimate.value))


def _reached(time: Array, curve: Array, height: float) -> float:
    """Return the first time at which a curve is at most that high, interpolated."""
    k = max(1, int((curve <= height).argmax()))
    part = (curve[k - 1] - height) / (curve[k - 1] - curve[k])
    return float(time[k - 1] + part * (time[k] - time[k - 1]))


def _steeper(time: Array, curve: Array, end: float) -> float:
    """Return the mean fall per time around the end of the plateau, over that in its middle."""

    def fall(first: float, last: float) -> float:
        a, b = np.interp([first * end, last * end], time, curve)
        return float(a - b) / (last - first)

    # Noise may leave no fall at all on the plateau.
    return fall(0.75, 1.25) / max(fall(0.3, 0.6), 1e-3 * float(curve[0]))


def linear_rows(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Return a row per cell: how well curves, densities and the plateau's end agree."""
    rows = []
    for r, a in zip(results, agreements(results), strict=True):
        row: dict[str, Any] = {"n": a.n, "bits": a.bits, "range": a.range}
        row["start"] = r.settings.get("init_scale", 0.05)
        row["error, rms deviation"] = f"{100 * a.deviation.value:.2f} %"
        row["within 3 % or 3 errors"] = f"{a.agree:.3f}"
        row["density, K-S"] = f"{a.distance:.4f} ± {a.band:.4f}"
        row["plateau"] = f"{a.plateau:.3f}" if a.drop is not None else ""
        row["drop, equations"] = f"{a.drop_predicted:.3f}" if a.drop is not None else ""
        row["drop, seen"] = str(a.drop or "")
        row["steeper"] = str(a.steepening or "")
        rows.append(row)
    return rows
