"""Dynamic activation quantizers: one scale per token, taken from the token."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from ste_lightning import functional as SF
from ste_lightning.functional import Surrogate
from ste_lightning.functional.rounding import widen
from ste_lightning.quantizers.levels import check_bits, signed_range
from ste_lightning.quantizers.quantizer import Quantizer
from ste_lightning.quantizers.registry import register_quantizer

__all__ = ["Token"]


@register_quantizer("token")
class Token(Quantizer):
    """q(x) = s clip(round(x / s), -2^(b-1), 2^(b-1) - 1), s = max|x| / (2^(b-1) - 1) per token.

    A token is a slice along the last axis. Nothing is clipped; s is a constant in the backward
    pass, so dq/dx := f'(cell).

    Args:
        bits: 2 to 8; 8 in BitNet.
        rule: the backward rule around each transition; default ``"identity"``.
        params: the rule's parameters.

    Raises:
        ConfigurationError: for fewer than 2 or more than 8 bits, an unknown rule.

    Source: Wang et al. 2023, arXiv 2310.11453 (BitNet), section 2.1; max|x| is at least 1e-5.
    """

    default_rule = "identity"
    operands: ClassVar[frozenset[str]] = frozenset({"activations"})
    between_levels: ClassVar[bool] = True

    def __init__(self, bits: int = 8, rule: str | Surrogate | None = None, **params: Any) -> None:
        super().__init__(rule, **params)
        self.bits = check_bits(bits, low=2)
        self.low, self.high = signed_range(bits)

    @torch.no_grad()
    def _scale(self, x: Tensor) -> Tensor:
        return widen(x).abs().amax(dim=-1, keepdim=True).clamp_min(1e-5) / self.high

    def quantize(self, x: Tensor) -> Tensor:
        """Return each token on its own grid, in the shape and dtype of ``x``."""
        return SF.fake_quantize(x, self._scale(x), 0.0, self.low, self.high, self.rule)

    @torch.no_grad()
    def integer_levels(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the levels, and one step per token."""
        scale = self._scale(x)
        return (widen(x) / scale).round().clamp(self.low, self.high).int(), scale

    def extra_repr(self) -> str:
        """Return the bits and the rule."""
        return f"bits={self.bits}, {super().extra_repr()}"
