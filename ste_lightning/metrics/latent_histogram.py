"""Where the latent weights lie."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from ste_lightning.errors import require

__all__ = ["LatentHistogram"]


class LatentHistogram(Metric):
    """Shares of the latent weights in equal bins on [-limit, limit].

    Weights beyond the limit count in the outermost bins.

    Args:
        bins: number of bins; default 60.
        limit: half the range; default 1.5.
        kwargs: passed on to :class:`torchmetrics.Metric`.

    Raises:
        ConfigurationError: for fewer than two bins or a limit that is not positive.
    """

    full_state_update = False
    counts: Tensor

    def __init__(self, bins: int = 60, limit: float = 1.5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        require(bins > 1, "bins", bins, "use two or more")
        require(limit > 0, "limit", limit, "use a positive number")
        self.bins, self.limit = bins, limit
        counts = torch.zeros(bins, dtype=torch.int64)
        self.add_state("counts", counts, dist_reduce_fx="sum", persistent=True)

    @property
    def edges(self) -> Tensor:
        """The bins' borders, shape (bins + 1,)."""
        return torch.linspace(-self.limit, self.limit, self.bins + 1)

    def update(self, weight: Tensor) -> None:
        """Take latent weights of any shape."""
        place = (weight.detach().float().flatten() + self.limit) * (self.bins / (2 * self.limit))
        bins = place.floor().clamp(0, self.bins - 1).to(torch.int64)
        self.counts = self.counts + torch.bincount(bins, minlength=self.bins)

    def compute(self) -> Tensor:
        """Return the share in each bin, shape (bins,); all zeros before the first update."""
        return self.counts / self.counts.sum().clamp(min=1)
