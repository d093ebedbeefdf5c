"""Schedules: pure functions of the training progress in [0, 1].

A schedule drives one parameter of a quantizer or of its backward rule; a preset names what a
paper drives together: ``"ede"`` the rule's t and k, ``"reste"`` its order o, and so on.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

from ste_lightning.errors import require, unknown

__all__ = [
    "PRESETS",
    "SCHEDULES",
    "Schedule",
    "bits",
    "constant",
    "cosine",
    "delay",
    "ede",
    "ede_gain",
    "linear",
    "log",
    "mirror_sigmoid",
    "progressive",
    "reste",
    "schedule_names",
]


def constant(progress: float, value: float = 1.0) -> float:
    """Return ``value`` throughout."""
    return value


def linear(progress: float, start: float = 0.0, end: float = 1.0) -> float:
    """Return start + (end - start) p; BinaryRelax's mixing weight (Yin et al. 2018, 1801.06313)."""
    return start + (end - start) * progress


def cosine(progress: float, start: float = 0.0, end: float = 1.0) -> float:
    """Return end + (start - end) (1 + cos(pi p)) / 2 (Loshchilov and Hutter 2017, 1608.03983)."""
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


def log(progress: float, start: float = 0.1, end: float = 10.0) -> float:
    """Return start (end / start)^p: linear in the logarithm. Both ends must be positive."""
    require(start > 0 and end > 0, "start, end", (start, end), "use positive numbers")
    return float(start * (end / start) ** progress)


def ede(progress: float, start: float = 0.1, end: float = 10.0) -> float:
    """Return IR-Net's t = T_min (T_max / T_min)^p (Qin et al. 2020, 1909.10788, eq. 12)."""
    return log(progress, start, end)


def ede_gain(progress: float, start: float = 0.1, end: float = 10.0) -> float:
    """Return IR-Net's k = max(1 / t, 1) for t = :func:`ede` (1909.10788, eq. 12)."""
    return max(1 / ede(progress, start, end), 1.0)


def reste(progress: float, start: float = 1.0, end: float = 3.0) -> float:
    """Return ReSTE's order o = 1 + (end - 1)(1 - cos(pi p / 2)) (Wu et al. 2023, 2308.06689)."""
    return start + (end - start) * (1 - math.cos(math.pi / 2 * progress))


def progressive(progress: float, alpha: float = 4.0, beta: float = 10.0) -> float:
    """Return the width rho = alpha^(-beta p) of a forward hardtanh(x / rho); 1 - T in bitorch."""
    return float(alpha ** (-beta * progress))


def mirror_sigmoid(progress: float, center: float = 0.5, steepness: float = 10.0) -> float:
    """Return PARQ's proximal annealing rho: a falling sigmoid, exactly 1 at p = 0 and 0 at p = 1.

    rho = (s(p) - s(1)) / (s(0) - s(1)), s(p) = 1 / (1 + exp(steepness (p - center))). (PARQ's
    own normalization holds for center = 1/2 only.)

    Source: Jin et al. 2025, arXiv 2503.15748 (PARQ), section 4.
    """
    require(steepness > 0, "steepness", steepness, "use a positive number")

    def s(p: float) -> float:
        return 1 / (1 + math.exp(steepness * (p - center)))

    return (s(progress) - s(1.0)) / (s(0.0) - s(1.0))


def delay(progress: float, start: float = 0.1) -> float:
    """Return 0 before p = ``start`` and 1 from there: train in float first, then quantized."""
    return float(progress >= start)


def bits(progress: float, start: int = 8, end: int = 2) -> float:
    """Return a whole number of bits falling (or rising) from ``start`` to ``end`` in equal stages.

    Stage i of |end - start| + 1 covers p in [i / n, (i + 1) / n).
    """
    stages = abs(end - start) + 1
    stage = min(int(progress * stages), stages - 1)
    return float(start + stage * (1 if end > start else -1))


SCHEDULES: Mapping[str, Callable[..., float]] = {
    f.__name__: f
    for f in (
        bits,
        constant,
        cosine,
        delay,
        ede,
        ede_gain,
        linear,
        log,
        mirror_sigmoid,
        progressive,
        reste,
    )
}
# preset -> {parameter: function}
PRESETS: Mapping[str, Mapping[str, str]] = {
    "bits": {"bits": "bits"},
    "delay": {"strength": "delay"},
    "ede": {"t": "ede", "k": "ede_gain"},
    "parq": {"rho": "mirror_sigmoid"},
    "progressive": {"rho": "progressive"},
    "relax": {"strength": "linear"},
    "reste": {"o": "reste"},
}


def schedule_names() -> tuple[str, ...]:
    """Return the names of all schedules, sorted."""
    return tuple(sorted(SCHEDULES))


@dataclasses.dataclass(frozen=True)
class Schedule:
    """One schedule with its parameters, restricted to a window of training.

    Args:
        function: a name in :data:`SCHEDULES`.
        params: its parameters, as ``(name, value)`` pairs.
        begin, until: the function runs from 0 to 1 while the progress goes from ``begin`` to
            ``until``, and is constant before and after.

    Raises:
        ConfigurationError: for an unknown function or parameter, or an empty window.
    """

    function: str
    params: tuple[tuple[str, Any], ...] = ()
    begin: float = 0.0
    until: float = 1.0

    def __post_init__(self) -> None:
        if self.function not in SCHEDULES:
            raise unknown("schedule", self.function, SCHEDULES)
        known = list(inspect.signature(SCHEDULES[self.function]).parameters)[1:]
        for name, _ in self.params:
            if name not in known:
                raise unknown(
                    f"parameter of schedule {self.function!r}:", name, [*known, "begin", "until"]
                )
        require(
            0 <= self.begin < self.until <= 1,
            "begin, until",
            (self.begin, self.until),
            "use 0 <= begin < until <= 1, as fractions of training",
        )

    def __call__(self, progress: float) -> float:
        """Return the value at ``progress``; outside [0, 1] that of the nearer end."""
        inner = (progress - self.begin) / (self.until - self.begin)
        inner = min(max(inner, 0.0), 1.0)
        return float(SCHEDULES[self.function](inner, **dict(self.params)))
