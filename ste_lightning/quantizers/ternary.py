"""Ternary quantizers onto {-1, 0, +1} times a scale."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ste_lightning import functional as SF
from ste_lightning.errors import require
from ste_lightning.functional import Surrogate
from ste_lightning.functional.estimator.eager import is_plain_eager
from ste_lightning.functional.rounding import widen
from ste_lightning.quantizers.levels import (
    check_granularity,
    join_groups,
    joined_scale,
    reduced_axes,
    split_groups,
)
from ste_lightning.quantizers.quantizer import Operand, Quantizer
from ste_lightning.quantizers.registry import register_quantizer

__all__ = ["TWN", "BitNetTernary", "Ternary"]

TRITS = math.log2(3)


def _round_to_trits(x: Tensor) -> Tensor:
    """Return -1, 0, +1: ``x`` rounded half to even and clipped."""
    return x.round().clamp(-1, 1)


def _mean_beyond(x: Tensor, beyond: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Return the mean of |x| over ``axes`` where ``beyond`` is 1."""
    # in float32: float16 cannot count past 2048
    kept = widen(beyond).sum(dim=axes, keepdim=True).clamp_min(1)
    return (widen(x.abs() * beyond).sum(dim=axes, keepdim=True) / kept).to(x.dtype)


@torch.no_grad()
def _positive(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Return how many elements are above 0 over ``axes``, of numbers from 0 up."""
    if x.numel() > 1 << 24:  # where float32 stops counting
        return (x > 0).sum(dim=axes, keepdim=True)
    # in vectors: a tenth of the time of counting
    signs = x.sign() if x.requires_grad else x.sign_()
    return signs.sum(dim=axes, keepdim=True, dtype=torch.float32)


@register_quantizer("ternary")
class Ternary(Quantizer):
    """q(x) = sign(x) 1[|x| > threshold]; the backward rule acts on x itself.

    Args:
        rule: the backward rule; default ``"clipped"``. (Elements inside the dead zone get a
            gradient like all others.)
        threshold: half the width of the dead zone, in units of x.
        group_size: for weights, how many inputs of one output channel share a scale alpha, the
            mean of |x| beyond the threshold, a constant in the backward pass; without, alpha = 1.
        operand: what is quantized.
        channel_dim: the output channel's axis.
        params: the rule's parameters.

    Raises:
        ConfigurationError: for a negative threshold, an unknown rule or parameter, groups of
            activations.

    Source: Li et al. 2016, arXiv 1605.04711; the fixed threshold 0.05 is larq's.
    """

    bits = TRITS

    def __init__(
        self,
        rule: str | Surrogate | None = None,
        threshold: float = 0.05,
        group_size: int | None = None,
        operand: Operand = "weights",
        channel_dim: int = 0,
        **params: Any,
    ) -> None:
        super().__init__(rule, **params)
        require(threshold >= 0, "threshold", threshold, "use a number from 0 up")
        require(
            group_size is None or operand == "weights",
            "group_size",
            group_size,
            "it is for weights",
        )
        check_granularity("tensor", group_size)
        self.threshold = threshold
        self.group_size = group_size
        self.operand = operand
        self.channel_dim = channel_dim

    def _map(self, x: Tensor) -> Tensor:
        return x.sign() * (x.abs() > self.threshold)

    def quantize(self, x: Tensor) -> Tensor:
        """Return -1, 0 and +1, times alpha, in the shape and dtype of ``x``."""
        trits = SF.straight_through(x, self._map, self.rule)
        return trits if self.group_size is None else trits * self._alpha(x).to(x.dtype)

    @torch.no_grad()
    def _alpha(self, x: Tensor) -> Tensor:
        """Return 1, or the mean of |x| beyond the threshold for every element's group."""
        if self.group_size is None:
            return x.new_ones(())
        groups = split_groups(widen(x), self.group_size, self.channel_dim)
        alpha = _mean_beyond(groups, self._map(groups).abs(), (groups.dim() - 1,))
        return joined_scale(alpha, x, self.group_size, self.channel_dim)

    def integer_levels(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return -1, 0 and +1, and alpha."""
        return self._map(x).int(), self._alpha(x)

    def extra_repr(self) -> str:
        """Return the rule and the threshold."""
        group = "" if self.group_size is None else f", groups of {self.group_size}"
        return f"{super().extra_repr()}, threshold={self.threshold:g}{group}"


@register_quantizer("twn")
class TWN(Quantizer):
    """q(x) = alpha sign(x) 1[|x| > D], D = 0.7 mean|x|, alpha = mean of |x| beyond D.

    Args:
        rule: the backward rule, on x itself; default ``"clipped"``. With the scale, dq/dx is
            alpha f'(x), as for ``sign`` with a scale.
        scale: whether to multiply with alpha; without, the levels are -1, 0, +1 (larq's
            ``ternary_weight_networks``).
        detach_scale: whether alpha is a constant in the backward pass.
        granularity: one D and alpha per ``"tensor"`` (the paper) or per ``"channel"``.
        group_size: one D and alpha for so many inputs of one output channel.
        channel_dim: the output channel's axis.
        params: the rule's parameters.

    Raises:
        ConfigurationError: for an unknown rule, parameter or granularity.

    Source: Li et al. 2016, arXiv 1605.04711, section 2.3.
    """

    bits = TRITS
    operands: ClassVar[frozenset[str]] = frozenset({"weights"})
    factor: ClassVar[float] = 0.7

    def __init__(
        self,
        rule: str | Surrogate | None = None,
        scale: bool = True,
        detach_scale: bool = True,
        granularity: str = "tensor",
        channel_dim: int = 0,
        group_size: int | None = None,
        **params: Any,
    ) -> None:
        super().__init__(rule, **params)
        self.scale = scale
        self.detach_scale = detach_scale
        self.granularity = check_granularity(granularity, group_size)
        self.group_size = group_size
        self.channel_dim = channel_dim

    def _trits(self, x: Tensor) -> Tensor:
        axes = reduced_axes(x, self.granularity, self.channel_dim)
        return x.sign() * (x.abs() > self.factor * x.abs().mean(dim=axes, keepdim=True))

    def _threshold_and_scale(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return D, and alpha, which alone is differentiable."""
        axes = reduced_axes(x, self.granularity, self.channel_dim)
        magnitudes = x.abs()
        threshold = self.factor * magnitudes.detach().mean(dim=axes, keepdim=True)
        if self.granularity == "tensor" and is_plain_eager(x):
            # vectors, where booleans are taken one by one
            fresh = magnitudes.requires_grad  # else no other memory is touched
            beyond = F.threshold(magnitudes, float(threshold), 0.0, inplace=not fresh)
        else:
            beyond = magnitudes * (magnitudes.detach() > threshold)
        # in float32: float16 cannot hold sums
        total = widen(beyond).sum(dim=axes, keepdim=True)
        kept = _positive(beyond, axes)
        return threshold, (total / kept.clamp_min(1)).to(x.dtype)

    def _alpha(self, x: Tensor) -> Tensor:
        return self._threshold_and_scale(x)[1]

    def quantize(self, x: Tensor) -> Tensor:
        """Return -alpha, 0 and +alpha in the shape and dtype of ``x``."""
        values = split_groups(x, self.group_size, self.channel_dim)
        y = SF.straight_through(values, self._trits, self.rule)
        if self.scale:
            alpha = self._alpha(values)
            y = y * (alpha.detach() if self.detach_scale else alpha)
        return join_groups(y, x, self.group_size, self.channel_dim)

    def integer_levels(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return -1, 0 and +1, and alpha."""
        values = split_groups(x, self.group_size, self.channel_dim)
        levels = join_groups(self._trits(values).int(), x, self.group_size, self.channel_dim)
        if not self.scale:
            return levels, x.new_ones(())
        return levels, joined_scale(self._alpha(values), x, self.group_size, self.channel_dim)

    def extra_repr(self) -> str:
        """Return the rule, the scale and the granularity."""
        group = "" if self.group_size is None else f"({self.group_size})"
        kind = f"granularity={self.granularity!r}{group}"
        return f"{super().extra_repr()}, scale={self.scale}, {kind}"


@register_quantizer("bitnet")
class BitNetTernary(Quantizer):
    """q(x) = s clip(round(x / s), -1, 1), s = mean|x|: BitNet b1.58's absmean weights.

    dq/dx := f'(x / s), so 1 for the default rule; s is a constant in the backward pass.

    Args:
        rule: the backward rule, on x / s; default ``"identity"`` (the paper).
        granularity: one s per ``"tensor"`` (the paper) or per ``"channel"``.
        group_size: one s for so many inputs of one output channel.
        channel_dim: the output channel's axis.
        params: the rule's parameters.

    Raises:
        ConfigurationError: for an unknown rule, parameter or granularity.

    Source: Ma et al. 2024, arXiv 2402.17764, section 2; s is at least 1e-5.
    """

    bits = TRITS
    default_rule = "identity"
    operands: ClassVar[frozenset[str]] = frozenset({"weights"})

    def __init__(
        self,
        rule: str | Surrogate | None = None,
        granularity: str = "tensor",
        channel_dim: int = 0,
        group_size: int | None = None,
        **params: Any,
    ) -> None:
        super().__init__(rule, **params)
        self.granularity = check_granularity(granularity, group_size)
        self.group_size = group_size
        self.channel_dim = channel_dim

    @torch.no_grad()
    def _scale(self, x: Tensor) -> Tensor:
        groups = split_groups(x, self.group_size, self.channel_dim)
        axes = reduced_axes(groups, self.granularity, self.channel_dim)
        s = widen(groups).abs().mean(dim=axes, keepdim=True).clamp_min(1e-5)
        return joined_scale(s, x, self.group_size, self.channel_dim)

    def quantize(self, x: Tensor) -> Tensor:
        """Return -s, 0 and +s in the shape and dtype of ``x``."""
        s = self._scale(x)
        return (SF.straight_through(widen(x) / s, _round_to_trits, self.rule) * s).to(x.dtype)

    def integer_levels(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return -1, 0 and +1, and s."""
        s = self._scale(x)
        return _round_to_trits(widen(x) / s).int(), s
