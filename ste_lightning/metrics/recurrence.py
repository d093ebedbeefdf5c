"""Visits to the teacher: first hit, escapes, returns, and the time in between."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from ste_lightning.errors import require

__all__ = ["Recurrence"]


class Recurrence(Metric):
    """How often, and for how long, each trial is at the teacher w*.

    Under label noise the iterates reach w*, leave it and return, again and again. One update
    is one step; the distance is the number of signs that differ from the teacher's.

    An *escape* is a step from w* to elsewhere, a *return* the step back; the *return time* is
    the number of steps spent away in between, at least 1.

    Args:
        trials: number of independent trials.
        burn_in: steps that do not count for ``fraction``; default 0.
        longest: return times of this length and more share the last bin; default 512.
        trace_steps: keep the distances of the first ``trace_steps`` steps; default 0.
        kwargs: passed on to :class:`torchmetrics.Metric`.

    Raises:
        ConfigurationError: for an argument out of range.

    Source: arXiv 2505.18113 v2 (recurrence of the teacher under label noise).
    """

    full_state_update = True  # what an update means depends on those before it
    steps: Tensor
    first_hit: Tensor
    visits: Tensor
    escapes: Tensor
    away: Tensor
    time_away: Tensor
    return_times: Tensor
    at_teacher: Tensor
    trace: Tensor

    def __init__(
        self,
        trials: int,
        burn_in: int = 0,
        longest: int = 512,
        trace_steps: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        require(trials > 0, "trials", trials, "use a positive integer")
        require(burn_in >= 0, "burn_in", burn_in, "use 0 or a positive integer")
        require(longest > 1, "longest", longest, "use an integer above 1")
        require(trace_steps >= 0, "trace_steps", trace_steps, "use 0 or a positive integer")
        self.burn_in, self.longest, self.trace_steps = burn_in, longest, trace_steps
        zeros = torch.zeros(trials, dtype=torch.int64)
        defaults = {
            "steps": torch.tensor(0),
            "first_hit": zeros - 1,
            "visits": zeros,
            "escapes": zeros,
            "away": zeros,
            "time_away": zeros,
            "return_times": torch.zeros(trials, longest, dtype=torch.int64),
            "at_teacher": zeros.bool(),
            "trace": torch.full((trace_steps, trials), -1, dtype=torch.int32),
        }
        for name, default in defaults.items():
            # Every rank holds the same weights: "max" hands on the value they share.
            self.add_state(name, default.clone(), dist_reduce_fx="max", persistent=True)

    def update(self, distance: Tensor) -> None:
        """Take the next step's Hamming distances to the teacher, shape (trials,)."""
        here = distance == 0
        known = self.first_hit >= 0
        returned = here & (self.away > 0)
        self.escapes = self.escapes + (self.at_teacher & ~here)
        self.time_away = self.time_away + self.away * returned
        bins = self.away.clamp(1, self.longest).sub_(1).unsqueeze(1)
        counts = returned.to(torch.int64).unsqueeze(1)
        self.return_times = self.return_times.scatter_add(1, bins, counts)
        self.away = (self.away + known) * ~here
        index = int(self.steps)
        if index < self.trace_steps:
            self.trace = self.trace.clone() if self.trace.is_inference() else self.trace
            self.trace[index] = distance.to(self.trace.dtype)
        self.steps = self.steps + 1
        self.first_hit = torch.where(here & ~known, self.steps, self.first_hit)
        if index >= self.burn_in:
            self.visits = self.visits + here
        self.at_teacher = here

    def compute(self) -> dict[str, Tensor]:
        """Return the statistics per trial.

        Returns:
            ``fraction`` of the steps after the burn-in spent at w*; ``first_hit``, the number
            of the first step at w* (from 1; -1: never); ``escapes`` and ``returns``;
            ``mean_return_time`` (NaN without a return); ``return_times``, the histogram, bin k
            counting return times k + 1, shape (trials, longest); ``trace``, the distances of
            the first steps, shape (steps kept, trials).
        """
        returns = self.return_times.sum(1)
        counted = (self.steps - self.burn_in).clamp(min=1)
        return {
            "fraction": self.visits / counted,
            "first_hit": self.first_hit,
            "escapes": self.escapes,
            "returns": returns,
            "mean_return_time": self.time_away / returns,
            "return_times": self.return_times,
            "trace": self.trace[: int(self.steps)],
        }
