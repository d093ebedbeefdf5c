"""How many quantized weights change sign, or level, from one update to the next."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

__all__ = ["FlipRatio"]


class FlipRatio(Metric):
    """Mean over updates of the fraction of weights whose sign changed.

        flip ratio = mean_t mean_i 1[sign(x_t,i) != sign(x_(t-1),i)]

    Signs are compared, not values, so that scaled binary weights count too. The first update
    only sets the reference and counts no flips. ``reset`` keeps the reference: a flip between
    the last step of an epoch and the first of the next is seen.

    Args:
        kwargs: passed on to :class:`torchmetrics.Metric`.

    Source: larq's FlipRatio, Helwegen et al. 2019, arXiv 1906.02107, section 5.
    """

    full_state_update = True  # what an update means depends on those before it
    flipped: Tensor
    updates: Tensor
    previous: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        zero = torch.tensor(0.0, dtype=torch.float64)
        self.add_state("flipped", zero, dist_reduce_fx="mean", persistent=True)
        self.add_state("updates", zero.clone(), dist_reduce_fx="mean", persistent=True)
        empty = torch.zeros(0, dtype=torch.bool)
        self.add_state("previous", empty, dist_reduce_fx="max", persistent=True)

    def update(self, weight: Tensor) -> None:
        """Take the next weights, any fixed shape: latent or binary floats, whose signs count, the
        booleans ``x >= 0``, or integer levels, which are compared as they are.
        """
        positive = weight >= 0 if weight.is_floating_point() else weight
        if self.previous.shape == positive.shape:
            changed = (positive != self.previous).sum() / positive.numel()
            self.flipped = self.flipped + changed
            self.updates = self.updates + 1
        self.previous = positive.clone()

    def compute(self) -> Tensor:
        """Return the flip ratio, 0 before the second update."""
        return self.flipped / self.updates.clamp(min=1)

    def reset(self) -> None:
        """Forget the counts, keep the last signs as the reference."""
        previous = self.previous
        super().reset()
        self.previous = previous
