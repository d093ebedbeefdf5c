"""How often quantized weights jump back and forth between two levels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from ste_lightning.errors import require

__all__ = ["OscillationFrequency"]


class OscillationFrequency(Metric):
    """Share of the weights that oscillate, from an exponential average of their oscillations.

        o_t = 1[level_t != level_(t-1) and the last change went the other way]
        f_t = momentum * o_t + (1 - momentum) * f_(t-1)
        share = mean_i 1[f_t,i > threshold]

    The average, the last levels and the last directions survive ``reset``, so that nothing is
    lost between epochs; ``reset`` only clears ``counts``, the oscillations of each weight.

    Args:
        momentum: weight of the newest step; default 0.01.
        threshold: the frequency above which a weight counts as oscillating; default 0.005.
        kwargs: passed on to :class:`torchmetrics.Metric`.

    Attributes:
        frequency: f_t of every weight, float32.
        direction: +1 or -1, where the last change of level went; 0 before the first.
        counts: oscillations since the last reset, int32.

    Raises:
        ConfigurationError: for a momentum outside (0, 1] or a negative threshold.

    Source: Nagel et al. 2022, arXiv 2203.11086, section 2.2 and equation 4.
    """

    full_state_update = True  # an oscillation is seen against what came before
    previous: Tensor
    direction: Tensor
    frequency: Tensor
    counts: Tensor

    def __init__(self, momentum: float = 0.01, threshold: float = 0.005, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        require(0 < momentum <= 1, "momentum", momentum, "use a number in (0, 1]")
        require(threshold >= 0, "threshold", threshold, "use 0 or a positive number")
        self.momentum, self.threshold = momentum, threshold
        states = {
            "previous": torch.int32,
            "direction": torch.int8,
            "frequency": torch.float32,
            "counts": torch.int32,
        }
        for name, dtype in states.items():
            # Every rank holds the same weights: "max" hands on the value they share.
            default = torch.zeros(0, dtype=dtype)
            self.add_state(name, default, dist_reduce_fx="max", persistent=True)

    def update(self, levels: Tensor) -> None:
        """Take the next levels: integers, or latent weights, whose signs then count."""
        if levels.is_floating_point() or levels.dtype == torch.bool:
            levels = (levels if levels.dtype == torch.bool else levels >= 0).to(torch.int32)
        levels = levels.to(torch.int32)
        if self.previous.shape != levels.shape:
            self.previous = levels.clone()
            self.direction = torch.zeros_like(levels, dtype=torch.int8)
            self.frequency = torch.zeros_like(levels, dtype=torch.float32)
            self.counts = torch.zeros_like(levels, dtype=torch.int32)
            return
        change = (levels - self.previous).sign().to(torch.int8)
        oscillates = change * self.direction < 0
        self.frequency = torch.lerp(self.frequency, oscillates.float(), self.momentum)
        self.counts = self.counts + oscillates
        self.direction = torch.where(change != 0, change, self.direction)
        self.previous = levels.clone()

    def compute(self) -> Tensor:
        """Return the share of oscillating weights, 0 before the second update."""
        if self.frequency.numel() == 0:
            return torch.zeros((), device=self.frequency.device)
        return (self.frequency > self.threshold).float().mean()

    def reset(self) -> None:
        """Clear the counts; keep the frequencies, the last levels and directions."""
        kept = self.previous, self.direction, self.frequency
        super().reset()
        self.previous, self.direction, self.frequency = kept
        self.counts = torch.zeros_like(self.frequency, dtype=torch.int32)
