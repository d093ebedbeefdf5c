"""How many quantized weights change sign, or level, from one update to the next."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ste_lightning.metrics._persistent import PersistentMetric

__all__ = ["FlipRatio"]


class FlipRatio(PersistentMetric):
    """Mean over updates of the fraction of weights whose sign changed.

        flip ratio = mean_t mean_i 1[sign(x_t,i) != sign(x_(t-1),i)]

    Signs are compared, not values, so that scaled binary weights count too. The first update
    only sets the reference and counts no flips. ``reset`` keeps the reference: a flip between
    the last step of an epoch and the first of the next is seen.

    Args:
        kwargs: passed on to :class:`torchmetrics.Metric`.

    Source: larq's FlipRatio, Helwegen et al. 2019, arXiv 1906.02107, section 5.
    """

    flipped: Tensor
    updates: Tensor
    previous: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        zero = torch.tensor(0.0, dtype=torch.float64)
        self.count("flipped", zero)
        self.count("updates", zero)
        self.count("previous", torch.zeros(0, dtype=torch.bool))

    def update(self, weight: Tensor) -> None:
        """Take the next weights, any fixed shape: latent or binary floats, whose signs count, the
        booleans ``x >= 0``, or integer levels, which are compared as they are.
        """
        positive = weight >= 0 if weight.is_floating_point() else weight
        if self.previous.shape != positive.shape:
            self.previous = positive.clone()
            return
        changed = torch.count_nonzero(positive != self.previous)
        self.flipped.add_(changed / positive.numel())
        self.updates.add_(1)
        self.previous.copy_(positive)

    def compute(self) -> Tensor:
        """Return the flip ratio, 0 before the second update."""
        return self.flipped / self.updates.clamp(min=1)

    def reset(self) -> None:
        """Forget the counts, keep the last signs as the reference."""
        previous = self.previous
        super().reset()
        self.previous = previous
