"""How the levels of a quantizer are used: entropy, dead channels, drift of the scale."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from ste_lightning.errors import require

__all__ = ["DeadChannels", "ScaleDrift", "SignEntropy"]

_LEVELS = 512  # -256 .. 255: every grid of up to eight bits, signed or not


class SignEntropy(Metric):
    r"""Entropy of the quantized weights in bits; 1 for balanced signs.

    .. math:: H = -\sum_k p_k \log_2 p_k

    with p_k the share of elements on level k. Binary weights with as many +1 as -1 carry one
    bit each; a layer with H = 0 has died. Multi-level weights reach up to their bit width.

    Source: Qin et al. 2020, arXiv 1909.10788 (IR-Net), section 3.2.
    """

    full_state_update = False
    counts: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        counts = torch.zeros(_LEVELS, dtype=torch.int64)
        self.add_state("counts", counts, dist_reduce_fx="sum", persistent=True)

    def update(self, levels: Tensor) -> None:
        """Take integer levels in -256 .. 255, or floats, whose signs count (sign(0) = +1)."""
        if levels.is_floating_point():
            levels = levels >= 0
        low, high = (int(end) for end in torch.aminmax(levels.to(torch.int32)))
        if high - low < 4:  # few comparisons are several times cheaper than bincount
            counts = torch.zeros_like(self.counts)
            for level in range(low, high + 1):
                counts[level + _LEVELS // 2] = (levels == level).count_nonzero()
        else:
            bins = levels.flatten().to(torch.int64) + _LEVELS // 2
            counts = torch.bincount(bins, minlength=_LEVELS)
        self.counts = self.counts + counts

    def compute(self) -> Tensor:
        """Return the entropy in bits, 0 before the first update."""
        share = self.counts / self.counts.sum().clamp(min=1)
        entropy: Tensor = torch.special.entr(share).sum() / math.log(2)
        return entropy


class DeadChannels(Metric):
    """Share of channels that showed one single value in everything seen since the reset.

    A channel of binary activations that is always +1 carries no information and no gradient
    signal for the layers after it.

    Args:
        channel_dim: the channels' axis; default 1.
        kwargs: passed on to :class:`torchmetrics.Metric`.
    """

    full_state_update = True
    low: Tensor
    high: Tensor

    def __init__(self, channel_dim: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.channel_dim = channel_dim
        self.add_state("low", torch.zeros(0), dist_reduce_fx="min", persistent=True)
        self.add_state("high", torch.zeros(0), dist_reduce_fx="max", persistent=True)

    def update(self, x: Tensor) -> None:
        """Take quantized values with channels on the axis ``channel_dim``."""
        require(x.dim() > 0, "x.dim()", x.dim(), "use a tensor with a channel axis")
        axes = [d for d in range(x.dim()) if d != self.channel_dim % x.dim()]
        x = x.detach()
        low, high = (x.amin(axes), x.amax(axes)) if axes else (x, x)
        if self.low.shape == low.shape:
            low, high = torch.minimum(self.low, low), torch.maximum(self.high, high)
        self.low, self.high = low, high

    def compute(self) -> Tensor:
        """Return the share of dead channels, 0 before the first update."""
        if self.low.numel() == 0:
            return torch.zeros((), device=self.low.device)
        return (self.low == self.high).float().mean()


class ScaleDrift(Metric):
    r"""How far a scale has moved since it was first seen, in octaves.

    .. math:: d = \operatorname{mean}_c \log_2 \lvert s_c / s_{c,0} \rvert

    +1: doubled; -1: halved. The reference survives ``reset``.
    """

    full_state_update = True
    reference: Tensor
    scale: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # Every rank holds the same scales: "max" hands on the value they share.
        self.add_state("reference", torch.zeros(0), dist_reduce_fx="max", persistent=True)
        self.add_state("scale", torch.zeros(0), dist_reduce_fx="max", persistent=True)

    def update(self, scale: Tensor) -> None:
        """Take the scale as it is now, of any fixed shape."""
        magnitude = scale.detach().abs().flatten()
        self.scale = magnitude.clamp(min=torch.finfo(magnitude.dtype).tiny)
        if self.reference.shape != self.scale.shape:
            self.reference = self.scale.clone()

    def compute(self) -> Tensor:
        """Return the drift, 0 before the first update."""
        if self.scale.numel() == 0:
            return torch.zeros((), device=self.scale.device)
        return (self.scale / self.reference).log2().mean()

    def reset(self) -> None:
        """Forget the newest scale, keep the reference."""
        reference = self.reference
        super().reset()
        self.reference = reference
