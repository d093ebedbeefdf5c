"""IR-Net's Libra parameter binarization."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from ste_lightning import functional as SF
from ste_lightning.functional import Surrogate
from ste_lightning.functional.rounding import widen
from ste_lightning.quantizers.levels import reduced_axes
from ste_lightning.quantizers.quantizer import Quantizer
from ste_lightning.quantizers.registry import register_quantizer
from ste_lightning.quantizers.scaling import power_of_two_scale, standardize

__all__ = ["LibraPB"]


@register_quantizer("libra")
class LibraPB(Quantizer):
    """q(w) = 2^s sign(v), v = (w - mean) / std, s = round(log2 mean|v|), per output channel.

    The gradient passes through mean and std; the scale 2^s is a constant. A constant filter, and
    one with a single input, has no spread to standardize: there v = w.

    Args:
        rule: the backward rule, on v; default ``"ede"`` (schedule it with ``"ede"``).
        channel_dim: the output channel's axis.
        params: the rule's parameters.

    Raises:
        ConfigurationError: for an unknown rule or parameter.

    Source: Qin et al. 2020, arXiv 1909.10788, section 3.2 (IR-Net).
    """

    bits = 1.0
    default_rule = "ede"
    operands: ClassVar[frozenset[str]] = frozenset({"weights"})

    def __init__(
        self, rule: str | Surrogate | None = None, channel_dim: int = 0, **params: Any
    ) -> None:
        super().__init__(rule, **params)
        self.channel_dim = channel_dim

    def _balanced(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return v, and the scale 2^s."""
        axes = reduced_axes(x, "channel", self.channel_dim)
        v = standardize(widen(x), axes)
        return v, power_of_two_scale(v.detach(), axes)

    def quantize(self, x: Tensor) -> Tensor:
        """Return -2^s and +2^s in the shape and dtype of ``x``."""
        v, scale = self._balanced(x)
        return (SF.sign(v, self.rule) * scale).to(x.dtype)

    @torch.no_grad()
    def integer_levels(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return -1 and +1, and 2^s."""
        v, scale = self._balanced(x)
        return SF.hard_sign(v).int(), scale
