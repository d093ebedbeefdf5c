"""Has training recovered the teacher's binary weights? Last and ergodic iterate."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ste_lightning.errors import require
from ste_lightning.metrics._persistent import PersistentMetric

__all__ = ["Recovery"]


class Recovery(PersistentMetric):
    """Recovery of the teacher's signs by the last and by the ergodic (averaged) iterate.

        last:     sign(x_T) = sign(w*)
        ergodic:  sign((1/T) sum_t sign(x_t)) = sign(w*)

    The ergodic iterate averages the *binary* iterates and rounds once, at the end;
    sign(0) = +1.

    Args:
        trials: number of independent trials.
        n: weights of a trial.
        kwargs: passed on to :class:`torchmetrics.Metric`.

    Raises:
        ConfigurationError: if ``trials`` or ``n`` is not positive.

    Source: the two kinds of guarantee of arXiv 2505.18113.
    """

    positives: Tensor
    steps: Tensor
    agrees: Tensor
    teacher: Tensor

    def __init__(self, trials: int, n: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        require(trials > 0, "trials", trials, "use a positive integer")
        require(n > 0, "n", n, "use a positive integer")
        zeros = torch.zeros(trials, n, dtype=torch.int64)
        self.count("positives", zeros)
        self.count("steps", torch.tensor(0))
        self.count("agrees", zeros.bool())
        self.count("teacher", zeros.bool())

    def update(self, weight: Tensor, teacher: Tensor) -> None:
        """Take the next iterate.

        Args:
            weight: latent or binary weights, or the booleans ``x >= 0``, shape (trials, n).
            teacher: the teacher's weights in any of these forms, shape (trials, n).
        """
        positive = weight if weight.dtype == torch.bool else weight >= 0
        self.teacher.copy_(teacher if teacher.dtype == torch.bool else teacher >= 0)
        torch.eq(positive, self.teacher, out=self.agrees)
        self.positives.add_(positive)
        self.steps.add_(1)

    def compute(self) -> dict[str, Tensor]:
        """Return per-trial tensors: ``hamming`` (wrong signs now), ``last`` and ``ergodic``."""
        hamming = (~self.agrees).sum(-1)
        ergodic = (2 * self.positives >= self.steps) == self.teacher
        return {"hamming": hamming, "last": hamming == 0, "ergodic": ergodic.all(-1)}
