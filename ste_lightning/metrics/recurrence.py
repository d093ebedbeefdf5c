"""Visits to the teacher: first hit, escapes, returns, and the time in between."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ste_lightning.errors import require
from ste_lightning.metrics._persistent import PersistentMetric

__all__ = ["Recurrence"]


class Recurrence(PersistentMetric):
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
        self.count("steps", torch.tensor(0))
        self.count("first_hit", zeros - 1)
        self.count("visits", zeros)
        self.count("escapes", zeros)
        self.count("away", zeros)
        self.count("time_away", zeros)
        self.count("return_times", torch.zeros(trials, longest, dtype=torch.int64))
        self.count("at_teacher", zeros.bool())
        # One row more than asked for: all later steps write there.
        self.count("trace", torch.full((trace_steps + 1, trials), -1, dtype=torch.int32))

    def update(self, distance: Tensor) -> None:
        """Take the next step's Hamming distances to the teacher, shape (trials,)."""
        here = distance == 0
        elsewhere = ~here
        known = self.first_hit >= 0
        returned = here & (self.away > 0)
        self.escapes.add_(self.at_teacher & elsewhere)
        self.time_away.add_(self.away * returned)
        bins = self.away.clamp(1, self.longest).sub_(1)
        self.return_times.scatter_add_(1, bins.unsqueeze(1), returned.long().unsqueeze(1))
        self.away.add_(known).mul_(elsewhere)
        if self.trace_steps:
            row = self.steps.clamp(max=self.trace_steps).view(1)
            self.trace.index_copy_(0, row, distance.to(torch.int32).unsqueeze(0))
        self.visits.add_(here & (self.steps >= self.burn_in) if self.burn_in else here)
        self.steps.add_(1)
        self.first_hit.masked_fill_(here & ~known, self.steps)
        self.at_teacher.copy_(here)

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
            "trace": self.trace[: min(int(self.steps), self.trace_steps)],
        }
