"""How many samples label noise asks for, seen and predicted."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from ste_lightning.theory.estimates import Estimate, power_law
from ste_lightning.theory.population import Stability, local_stability
from ste_lightning.theory.statistics import crossing, half_point
from ste_lightning.theory.studies.cells import rule_of
from ste_lightning.theory.studies.runner import Result

__all__ = ["Scaling", "predicted_samples", "scaling", "scaling_rows"]

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Scaling:
    """Samples that one noise level asks for, seen and predicted.

    Attributes:
        n: inputs.
        noise: standard deviation of the label noise.
        half_time: N at which trials spend half of the time at w*, on average.
        half_time_predicted: by :func:`ste_lightning.theory.population.local_stability`.
        n50: N at which half of the trials recover by the averaged iterate.
        n50_predicted: likewise; counts label noise alone, no finite-sample noise.
    """

    n: int
    noise: float
    half_time: Estimate
    half_time_predicted: float
    n50: Estimate
    n50_predicted: float


def scaling(results: Sequence[Result]) -> list[Scaling]:
    """Return what each (n, noise) asks for; v is ones / sqrt(m)."""
    groups: dict[tuple[int, float], list[Result]] = {}
    for r in sorted(results, key=lambda r: float(r.settings["samples"])):
        groups.setdefault((r.settings["n"], r.settings["noise"]), []).append(r)
    return [_scaling(groups[place]) for place in sorted(groups)]


def _scaling(members: Sequence[Result]) -> Scaling:
    settings = members[0].settings
    n, m, noise = settings["n"], settings.get("m", 4), settings["noise"]
    samples = [r.settings["samples"] for r in members]
    fraction, averaged = (
        torch.tensor([r.columns[name] for r in members], dtype=torch.float64)
        for name in ("fraction", "ergodic")
    )
    v, rule = torch.ones(m) / math.sqrt(m), rule_of(settings.get("rule", "relu"))

    def at(N: int) -> Stability:
        return local_stability(n, N, noise, v, rule)

    return Scaling(
        n,
        noise,
        crossing(samples, fraction),
        predicted_samples(lambda N: at(N).fraction),
        half_point(samples, averaged),
        predicted_samples(lambda N: (1 - at(N).overturned) ** n),
    )


def predicted_samples(rate: Callable[[int], float], target: float = 0.5) -> float:
    """Return the N at which the increasing ``rate(N)`` reaches ``target``, by bisection."""
    low, high = 0.0, 60.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if rate(max(1, round(2**middle))) > target else (middle, high)
    return float(2**low)


def scaling_rows(results: Sequence[Result]) -> list[Row]:
    """Return a row per (n, noise), and the fitted powers of n and of the noise."""
    found = scaling(results)
    rows: list[Row] = [
        {
            "n": s.n,
            "noise": f"{s.noise:g}",
            "half the time at w*": str(s.half_time),
            "predicted": f"{s.half_time_predicted:.0f}",
            "averaged recovers, N50": str(s.n50),
            "predicted ": f"{s.n50_predicted:.0f}",
        }
        for s in found
    ]
    for by, fixed in (("n", "noise"), ("noise", "n")):
        for value in sorted({getattr(s, fixed) for s in found}):
            row: Row = {"n": "", "noise": "", fixed: f"{value:g}", by: "power of"}
            for column, name in (
                ("half the time at w*", "half_time"),
                ("averaged recovers, N50", "n50"),
            ):
                points = [
                    (getattr(s, by), getattr(s, name)) for s in found if getattr(s, fixed) == value
                ]
                known = [(x, e) for x, e in points if not math.isnan(e.value)]
                if len(known) > 1:
                    x, e = zip(*known, strict=True)
                    row[column] = f"{by}^{power_law(x, e)}"
            if len(row) > 2:
                rows.append(row)
    return rows
