"""Binary quantizers: sign with an optional scale, and step."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ste_lightning import functional as SF
from ste_lightning.errors import unknown
from ste_lightning.functional import Surrogate
from ste_lightning.quantizers.quantizer import Quantizer
from ste_lightning.quantizers.registry import register_quantizer
from ste_lightning.quantizers.scaling import SCALES, mean_magnitude

__all__ = ["Sign", "Step"]


@register_quantizer("sign")
class Sign(Quantizer):
    """q(x) = alpha sign(x), with sign(0) = +1.

    Args:
        rule: the backward rule of the sign; default ``"clipped"``.
        scale: ``"none"`` (alpha = 1), ``"tensor_mean"`` or ``"channel_mean"`` (alpha = mean|x|).
        detach_scale: whether alpha is a constant in the backward pass; otherwise the gradient
            also flows through mean|x|.
        channel_dim: the output channel's axis for ``"channel_mean"``.
        params: the rule's parameters.

    Raises:
        ConfigurationError: for an unknown rule, parameter or scale.

    Source: Hubara et al. 2016, arXiv 1602.02830; scales: Rastegari et al. 2016, 1603.05279.
    """

    bits = 1.0

    def __init__(
        self,
        rule: str | Surrogate | None = None,
        scale: str = "none",
        detach_scale: bool = True,
        channel_dim: int = 0,
        **params: Any,
    ) -> None:
        super().__init__(rule, **params)
        if scale not in SCALES:
            raise unknown("scale", scale, SCALES)
        self.scale = scale
        self.detach_scale = detach_scale
        self.channel_dim = channel_dim

    def quantize(self, x: Tensor) -> Tensor:
        """Return alpha sign(x) in the shape and dtype of ``x``."""
        signs = SF.sign(x, self.rule)
        if self.scale == "none":
            return signs
        alpha = mean_magnitude(x, self.scale, self.channel_dim)
        return signs * (alpha.detach() if self.detach_scale else alpha)

    def integer_levels(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return -1 and +1, and alpha."""
        alpha = x.new_ones(())
        if self.scale != "none":
            alpha = mean_magnitude(x, self.scale, self.channel_dim)
        return SF.hard_sign(x).int(), alpha

    def extra_repr(self) -> str:
        """Return the rule and, where there is one, the scale."""
        scale = "" if self.scale == "none" else f", scale={self.scale!r}"
        return super().extra_repr() + scale


@register_quantizer("step")
class Step(Quantizer):
    """q(x) = 1[x > 0], so q(0) = 0.

    Args:
        rule: the backward rule; default ``"relu"``.
        params: the rule's parameters.

    Source: Yin et al. 2019, arXiv 1903.05662.
    """

    bits = 1.0
    default_rule = "relu"

    def quantize(self, x: Tensor) -> Tensor:
        """Return 0 and 1 in the shape and dtype of ``x``."""
        return SF.step(x, self.rule)

    def integer_levels(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return 0 and 1, and the scale 1."""
        return SF.hard_step(x).int(), x.new_ones(())
