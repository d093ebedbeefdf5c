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
        if weight.is_floating_point():
            weight = weight >= 0
        elif weight.dtype != torch.bool:
            weight = weight.to(torch.int32)  # gloo and NCCL do not gather int16
        if self.previous.shape != weight.shape or self.previous.dtype != weight.dtype:
            self.previous = weight.clone()
            return
        changed = torch.count_nonzero(weight != self.previous)
        self.flipped.add_(changed / weight.numel())
        self.updates.add_(1)
        self.previous.copy_(weight)

    def compute(self) -> Tensor:
        """Return the flip ratio, 0 before the second update."""
        return self.flipped / self.updates.clamp(min=1)

    def reset(self) -> None:
        """Forget the counts, keep the last signs as the reference."""
        previous = self.previous
        super().reset()
        self.previous = previous
