"""What a paper, or we, claim, and what a study's stored results say about it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import torch

from ste_lightning.theory.estimates import Estimate
from ste_lightning.theory.statistics import student_mean, wilson
from ste_lightning.theory.studies.runner import Result

__all__ = ["Claim", "Measured", "at", "mean", "measured", "share"]


@dataclasses.dataclass(frozen=True)
class Measured:
    """One number with its 95 % interval.

    Attributes:
        what: what was measured, in words.
        value: the number; NaN where only its bounds are known.
        low: lower end of the interval.
        high: upper end.
    """

    what: str
    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """Return the words and ``value [low, high]``."""
        interval = Estimate(self.value, self.low, self.high, torch.empty(0))
        return f"{self.what}: {interval}"


@dataclasses.dataclass(frozen=True)
class Claim:
    """A sentence that a measured number can bear out or refute.

    Attributes:
        text: what is claimed.
        source: its key in :data:`ste_lightning.theory.claims.sources.SOURCES`.
        predicted: the closed form or the derivation, in a few words, and what follows for the
            number that is measured.
        recipe: of the study whose results are measured.
        measure: the results of that study -> the number; None where they do not hold it.
        holds: smallest and largest value with which the claim holds.
        within: the tolerance that ``holds`` allows, such as "3 %"; empty where it allows none.
        note: where the claim ends, in words; empty for none.
    """

    text: str
    source: str
    predicted: str
    recipe: str
    measure: Callable[[Sequence[Result]], Measured | None]
    holds: tuple[float, float]
    within: str = ""
    note: str = ""

    def verdict(self, found: Measured) -> str:
        """Return "holds", "holds within ...", "does not hold" or "open".

        It holds if the whole interval lies within ``holds``, it does not if none of it does, and
        otherwise the measurement leaves it open.
        """
        low, high = self.holds
        if low <= found.low and found.high <= high:
            return f"holds within {self.within}" if self.within else "holds"
        return "does not hold" if found.high < low or found.low > high else "open"


def at(results: Sequence[Result], **settings: object) -> list[Result]:
    """Return the cells with these settings."""
    return [r for r in results if all(r.settings.get(k) == v for k, v in settings.items())]


def measured(what: str, estimate: Estimate | None) -> Measured | None:
    """Return an estimate as a measurement; None for None."""
    if estimate is None:
        return None
    return Measured(what, estimate.value, estimate.low, estimate.high)


def share(what: str, outcomes: Sequence[bool]) -> Measured | None:
    """Return the share of outcomes that are true, with Wilson's interval; None without any."""
    if not outcomes:
        return None
    count = sum(map(bool, outcomes))
    low, high = wilson(count, len(outcomes))
    return Measured(what, count / len(outcomes), float(low), float(high))


def mean(what: str, values: Sequence[float]) -> Measured | None:
    """Return the mean of independent values, with the interval of Student's t; None below two."""
    if len(values) < 2:
        return None
    return measured(what, student_mean(values))
