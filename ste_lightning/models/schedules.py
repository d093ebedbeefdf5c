"""Shapes of the learning rate over a training."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from ste_lightning.errors import require, unknown

__all__ = ["SCHEDULES", "Shape", "schedule_shape"]

Shape = Callable[[float], float]


def _cosine(done: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * done))


def _one_cycle(done: float) -> float:
    """Up from 1/25 within 30 % of the training, then down to 1e-6, both along half a cosine."""
    if done < 0.3:
        return 1.0 - (1.0 - 0.04) * _cosine(done / 0.3)
    return 4e-6 / 100 + (1.0 - 4e-8) * _cosine((done - 0.3) / 0.7)


SCHEDULES: dict[str, Shape] = {
    "constant": lambda done: 1.0,
    "linear": lambda done: 1.0 - done,
    "cosine": _cosine,
    "multi_step": lambda done: 1.0,  # its milestones are in the specification
    "one_cycle": _one_cycle,
}


def schedule_shape(spec: Mapping[str, Any]) -> Shape:
    r"""Return by what the learning rate is multiplied when a share s of the schedule is done.

    .. math:: 1 - s \;(linear), \quad (1 + \cos \pi s) / 2 \;(cosine), \quad
        f^{\#\{m : m \le s\}} \;(multi\_step)

    ``one_cycle`` rises along half a cosine from 1/25 to 1 at s = 0.3 and falls to nearly nothing
    (L. Smith and N. Topin, Super-Convergence, 2018; the momentum stays what it is). With a
    ``warmup`` w the rate first grows linearly, s / w, and the shape fills the rest.

    Args:
        spec: ``schedule`` (constant, linear, cosine, multi_step, one_cycle; default constant),
            ``warmup`` (share of the schedule, default 0), and for multi_step ``milestones``
            (shares of the schedule, default 0.5 and 0.75) and ``factor`` (default 0.1).

    Raises:
        ConfigurationError: for an unknown name, and for shares outside 0..1.
    """
    name = str(spec.get("schedule", "constant"))
    if name not in SCHEDULES:
        raise unknown("schedule", name, SCHEDULES)
    shape = SCHEDULES[name]
    if name == "multi_step":
        milestones = tuple(spec.get("milestones") or (0.5, 0.75))
        factor = float(spec.get("factor", 0.1))
        fits = all(0 < m < 1 for m in milestones)
        require(fits, "optimizer.milestones", list(milestones), "use shares between 0 and 1")
        require(0 < factor < 1, "optimizer.factor", factor, "use a number between 0 and 1")

        def shape(done: float) -> float:
            return float(factor ** sum(m <= done for m in milestones))

    warmup = float(spec.get("warmup") or 0.0)
    require(0 <= warmup < 1, "optimizer.warmup", warmup, "use a share of 0 to below 1")
    if not warmup:
        return shape

    def warmed(done: float) -> float:
        return done / warmup if done < warmup else shape((done - warmup) / (1 - warmup))

    return warmed
