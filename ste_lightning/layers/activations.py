"""Learnable activations of binary networks."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ste_lightning.errors import require
from ste_lightning.functional import Surrogate, sign, surrogate

__all__ = ["RPReLU", "RSign"]


class RSign(nn.Module):
    """y = sign(x + b_c): a sign with one learned threshold per channel.

    Args:
        channels: number of channels, the second axis of the input.
        rule: the backward rule of the sign; default Bi-Real's polynomial, as in the paper.
        params: the rule's parameters.

    Shape:
        ``(N, channels, *) -> (N, channels, *)``.

    Source: Liu et al. 2020, arXiv 2003.03488 (ReActNet), section 4.2; b = -alpha there.
    """

    def __init__(self, channels: int, rule: str | Surrogate = "approx", **params: Any) -> None:
        super().__init__()
        require(channels > 0, "channels", channels, "use the input's number of channels")
        self.rule = surrogate(rule, **params)
        self.bias = nn.Parameter(torch.zeros(channels))

    def reset_parameters(self) -> None:
        """Set the thresholds to zero."""
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return the sign of the shifted input."""
        return sign(x + _per_channel(self.bias, x), self.rule)

    def thresholds(self) -> Tensor:
        """Return -b_c, (channels,): inputs from there on become +1."""
        return -self.bias

    def extra_repr(self) -> str:
        """Return the number of channels and the rule."""
        return f"{self.bias.numel()}, rule={self.rule.name!r}"


class RPReLU(nn.Module):
    """y = PReLU(x + b1_c) + b2_c: a PReLU whose knee can move per channel.

    Args:
        channels: number of channels, the second axis of the input.
        slope: initial slope on the negative side.

    Shape:
        ``(N, channels, *) -> (N, channels, *)``.

    Source: Liu et al. 2020, arXiv 2003.03488 (ReActNet), section 4.2.
    """

    def __init__(self, channels: int, slope: float = 0.25) -> None:
        super().__init__()
        require(channels > 0, "channels", channels, "use the input's number of channels")
        self.shift = nn.Parameter(torch.zeros(channels))
        self.slope = nn.Parameter(torch.full((channels,), float(slope)))
        self.offset = nn.Parameter(torch.zeros(channels))
        self.first_slope = float(slope)

    def reset_parameters(self) -> None:
        """Set the knees and offsets to zero, and the slopes to the first slope."""
        nn.init.zeros_(self.shift)
        nn.init.zeros_(self.offset)
        nn.init.constant_(self.slope, self.first_slope)

    def forward(self, x: Tensor) -> Tensor:
        """Return the shifted, bent and offset input."""
        bent = F.prelu(x + _per_channel(self.shift, x), self.slope.to(x.dtype))
        return bent + _per_channel(self.offset, x)

    def extra_repr(self) -> str:
        """Return the number of channels."""
        return str(self.slope.numel())


def _per_channel(parameter: Tensor, x: Tensor) -> Tensor:
    """Shape a per-channel parameter against axis 1 of ``x``, in its dtype."""
    return parameter.to(x.dtype).reshape(-1, *[1] * (x.dim() - 2))
