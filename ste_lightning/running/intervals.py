"""Confidence intervals of means over a few runs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["CONFIDENCE", "INTERVALS", "Estimate", "bootstrap", "student_t"]

CONFIDENCE = 0.95
"""How often an interval of repeated sweeps holds the mean over all seeds."""


@dataclass(frozen=True)
class Estimate:
    """A mean over runs and its interval, None where there is one run only.

    Attributes:
        mean: over the runs.
        low, high: ends of the interval at :data:`CONFIDENCE`.
        runs: how many there are.
    """

    mean: float
    low: float | None
    high: float | None
    runs: int

    def __str__(self) -> str:
        """Return ``mean [low, high]`` with four decimals; one run's count is a whole number."""
        if self.low is None or self.high is None:
            return f"{self.mean:.0f}" if self.mean.is_integer() else f"{self.mean:.4f}"
        return f"{self.mean:.4f} [{self.low:.4f}, {self.high:.4f}]"


def student_t(values: Sequence[float]) -> Estimate:
    r"""Return the mean with Student's interval :math:`\bar x \pm t_{k-1} s / \sqrt k`.

    Right for values that are normally distributed, with as few as two of them.

    Args:
        values: of one run each; at least one.
    """
    mean, runs = statistics.fmean(values), len(values)
    if runs == 1:
        return Estimate(mean, None, None, 1)
    from scipy.stats import t as student  # a second of import, which most commands never need

    reach = float(student.ppf((1 + CONFIDENCE) / 2, runs - 1))
    half = reach * statistics.stdev(values) / math.sqrt(runs)
    return Estimate(mean, mean - half, mean + half, runs)


def bootstrap(values: Sequence[float], resamples: int = 10_000) -> Estimate:
    """Return the mean with the percentile interval of the bootstrap.

    Assumes nothing about the distribution, but is too short for fewer than ten runs or so.

    Args:
        values: of one run each; at least one.
        resamples: how often the runs are drawn again, always with the same random numbers.

    Source: B. Efron, The Annals of Statistics 7 (1979).
    """
    mean, runs = statistics.fmean(values), len(values)
    if runs == 1:
        return Estimate(mean, None, None, 1)
    drawn = np.random.default_rng(0).integers(0, runs, (resamples, runs))
    means = np.asarray(values)[drawn].mean(1)
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(mean, float(low), float(high), runs)


INTERVALS: dict[str, Callable[[Sequence[float]], Estimate]] = {
    "t": student_t,
    "bootstrap": bootstrap,
}
"""Kinds of intervals by name."""
