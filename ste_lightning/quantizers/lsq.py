"""LSQ and LSQ+: the step size, and the offset, are learned."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ste_lightning import functional as SF
from ste_lightning.errors import ConfigurationError
from ste_lightning.functional import Surrogate
from ste_lightning.functional.learned_scale import SMALLEST
from ste_lightning.functional.rounding import widen
from ste_lightning.quantizers.calibrated import Calibrated
from ste_lightning.quantizers.levels import (
    check_bits,
    check_granularity,
    join_groups,
    joined_scale,
    reduced_axes,
    signed_range,
    split_groups,
)
from ste_lightning.quantizers.quantizer import Operand
from ste_lightning.quantizers.registry import register_quantizer

__all__ = ["LSQ", "LSQPlus"]


@register_quantizer("lsq")
class LSQ(Calibrated):
    """q(x) = s round(clip(x / s, low, high)) with a learned step s.

    dq/dx := f'(cell) 1[low < x / s < high]; dq/ds = round(v) - f' v inside (v = x / s), ``low``
    or ``high`` outside, times g = 1 / sqrt(N high), N the number of weights or of features.
    s starts at 2 mean|x| / sqrt(high). With one signed bit, where high = 0, q(x) = s sign(x),
    dq/ds = sign(x), g = 1 / sqrt(N), and s starts at mean|x|.

    Args:
        bits: 1 to 8.
        rule: the backward rule; default ``"identity"``.
        signed: levels -2^(b-1) .. 2^(b-1) - 1, or 0 .. 2^b - 1 (the paper's for inputs after
            ReLU).
        granularity: one step per ``"tensor"`` (the paper) or, for weights, per ``"channel"``.
        group_size: for weights, one step for so many inputs of one output channel.
        operand: what is quantized.
        channel_dim: the output channel's axis.
        params: the rule's parameters.

    Raises:
        ConfigurationError: for 0 or more than 8 bits, an unknown rule or granularity.

    Source: Esser et al. 2020, arXiv 1902.08153, sections 2.1 and 2.2.
    """

    default_rule = "identity"
    between_levels: ClassVar[bool] = True
    learned_steps: ClassVar[tuple[str, ...]] = ("scale",)
    scale: Tensor
    offset: Tensor
    low: int
    high: int

    def __init__(
        self,
        bits: int = 4,
        rule: str | Surrogate | None = None,
        signed: bool = True,
        granularity: str = "tensor",
        operand: Operand = "activations",
        channel_dim: int = 0,
        group_size: int | None = None,
        **params: Any,
    ) -> None:
        super().__init__(rule, operand, **params)
        self.bits = check_bits(bits)
        self.granularity = check_granularity(granularity, group_size)
        self.group_size = group_size
        if self.granularity != "tensor" and operand != "weights":
            raise ConfigurationError(
                f"granularity={self.granularity!r} cannot be used: a learned step per channel or "
                "group is for weights; use 'tensor' for activations."
            )
        self.signed = signed
        self.low, self.high = signed_range(bits) if signed else (0, int(2**bits) - 1)
        self.binary = self.high == 0
        self.channel_dim = channel_dim
        self.scale = nn.Parameter(torch.ones(()))

    def first_step(self, name: str, x: Tensor) -> Tensor:
        """Return 2 mean|x| / sqrt(high), or mean|x| for one signed bit."""
        x = self._split(x)
        axes = reduced_axes(x, self.granularity, self.channel_dim)
        mean = widen(x).abs().mean(dim=axes, keepdim=self.granularity != "tensor")
        return mean if self.binary else 2 * mean / math.sqrt(self.high)

    def _split(self, x: Tensor) -> Tensor:
        return split_groups(x, self.group_size, self.channel_dim)

    def _join(self, groups: Tensor, x: Tensor) -> Tensor:
        return join_groups(groups, x, self.group_size, self.channel_dim)

    def _joined_scale(self, x: Tensor) -> Tensor:
        return joined_scale(self._positive_scale(x), x, self.group_size, self.channel_dim)

    def _set_from(self, x: Tensor) -> None:
        self._set_scale(self.first_step("scale", x))

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Forget the data: the step is 1 until the next training batch."""
        super().reset_parameters()
        self.scale.fill_(1)

    def _set_scale(self, scale: Tensor) -> None:
        """Copy the first scale; one per channel makes a new parameter of that shape."""
        scale = scale.clamp_min(SMALLEST).to(self.scale.dtype)
        if scale.shape != self.scale.shape:
            self.scale = nn.Parameter(scale)
        else:
            self.scale.copy_(scale)

    def _gradient_factor(self, x: Tensor) -> float:
        """Return g = 1 / sqrt(N high)."""
        per_sample = self.operand == "activations" and x.dim() > 1
        n = x.numel() // max(x.shape[0] if per_sample else 1, 1)
        return 1 / math.sqrt(max(n // max(self.scale.numel(), 1), 1) * max(self.high, 1))

    def _positive_scale(self, x: Tensor) -> Tensor:
        """Return the step in the dtype in which ``x`` is quantized."""
        return widen(self.scale).clamp_min(SMALLEST).to(widen(x).dtype)

    def quantize(self, x: Tensor) -> Tensor:
        """Return the nearest grid values in the shape and dtype of ``x``."""
        scale = SF.scale_gradient(self.scale, self._gradient_factor(x))
        values = self._split(x)
        if self.binary:
            s = widen(scale).clamp_min(SMALLEST)
            signs = SF.sign(widen(values) / s.detach(), self.rule)
            return self._join((signs * s).to(x.dtype), x)
        offset = torch.zeros_like(self.scale)
        y = SF.learned_scale_quantize(values, scale, offset, self.low, self.high, self.rule)
        return self._join(y, x)

    @torch.no_grad()
    def integer_levels(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the levels and the step."""
        scale = self._joined_scale(x)
        if self.binary:
            return SF.hard_sign(x).int(), scale
        return (widen(x) / scale).clamp(self.low, self.high).round().int(), scale

    def extra_repr(self) -> str:
        """Return bits, sign, granularity and the rule."""
        sign = "signed" if self.signed else "unsigned"
        group = "" if self.group_size is None else f"({self.group_size})"
        return f"bits={self.bits}, {sign}, {self.granularity}{group}, {super().extra_repr()}"


@register_quantizer("lsq_plus")
class LSQPlus(LSQ):
    """q(x) = s round(clip((x - b) / s, low, high)) + b with a learned step s and offset b.

    Gradients in x and s as in :class:`LSQ`; dq/db = 1 - f' inside the clip, 1 outside. b is
    used rounded to whole steps, so that deployment needs integers only and 0 stays a level.
    Activations start from their extremes, s = (max - min) / (high - low), b = min - s low;
    weights at s = max|mean +- 3 std| / 2^(b-1), b = 0.

    Args:
        bits: 1 to 8.
        rule, signed, granularity, operand, channel_dim, group_size, params: as in
            :class:`LSQ`, but levels 0 .. 2^b - 1 by default: the offset takes the sign.

    Raises:
        ConfigurationError: as :class:`LSQ`, and for one signed bit (use ``"lsq"``).

    Source: Bhalgat et al. 2020, arXiv 2004.09576, sections 3.2 and 3.3.
    """

    def __init__(
        self,
        bits: int = 4,
        rule: str | Surrogate | None = None,
        signed: bool | None = None,
        granularity: str = "tensor",
        operand: Operand = "activations",
        channel_dim: int = 0,
        group_size: int | None = None,
        **params: Any,
    ) -> None:
        signed = operand == "weights" if signed is None else signed
        super().__init__(
            bits, rule, signed, granularity, operand, channel_dim, group_size, **params
        )
        if self.binary:
            raise ConfigurationError(
                "bits=1 cannot be used: one signed bit has no offset; use the map 'lsq', or "
                "signed=False."
            )
        self.offset = nn.Parameter(torch.zeros(()))

    def first_step(self, name: str, x: Tensor) -> Tensor:
        """Return (max - min) / (high - low) of activations, max|mean +- 3 std| of weights."""
        x, keep = widen(self._split(x)), self.granularity != "tensor"
        if self.operand != "weights":
            return (x.amax() - x.amin()) / (self.high - self.low)
        axes = reduced_axes(x, self.granularity, self.channel_dim)
        std = x.std(dim=axes, keepdim=keep, correction=0)
        return (x.mean(dim=axes, keepdim=keep).abs() + 3 * std) / 2 ** (self.bits - 1)

    def _set_from(self, x: Tensor) -> None:
        super()._set_from(x)
        low = torch.zeros_like(self.scale)
        if self.operand != "weights":
            scale = self.first_step("scale", x).clamp_min(SMALLEST)
            low = widen(x).amin() - scale * self.low
        if low.shape != self.offset.shape:
            self.offset = nn.Parameter(low)
        else:
            self.offset.copy_(low)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Forget the data: the step is 1 and the offset 0 until the next training batch."""
        super().reset_parameters()
        self.offset.zero_()

    def quantize(self, x: Tensor) -> Tensor:
        """Return the nearest grid values in the shape and dtype of ``x``."""
        factor = self._gradient_factor(x)
        y = SF.learned_scale_quantize(
            self._split(x),
            SF.scale_gradient(self.scale, factor),
            SF.scale_gradient(self.offset, factor),
            self.low,
            self.high,
            self.rule,
        )
        return self._join(y, x)

    @torch.no_grad()
    def integer_levels(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the levels, the offset's steps added, and the step."""
        scale = self._positive_scale(x)
        start = (self.offset / scale).round()
        v = (widen(self._split(x)) - start * scale) / scale
        levels = (v.clamp(self.low, self.high).round() + start).int()
        return self._join(levels, x), self._joined_scale(x)
