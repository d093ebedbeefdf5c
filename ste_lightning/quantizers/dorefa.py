"""DoReFa-Net's quantizers of weights and of activations."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from ste_lightning import functional as SF
from ste_lightning.functional import Surrogate
from ste_lightning.functional.rounding import widen
from ste_lightning.quantizers.levels import check_bits
from ste_lightning.quantizers.quantizer import Operand, Quantizer
from ste_lightning.quantizers.registry import register_quantizer

__all__ = ["DoReFa"]


@register_quantizer("dorefa")
class DoReFa(Quantizer):
    """DoReFa with n = 2^b - 1 steps.

    Activations: q(x) = round(n clip(x, 0, 1)) / n; dq/dx := f'(cell) 1[0 <= x <= 1].
    Weights: q(w) = 2 round(n u) / n - 1, u = tanh(w) / (2 max|tanh w|) + 1/2; the maximum is a
    constant in the backward pass, so dq/dw = f'(cell) (1 - tanh^2 w) / max|tanh w|. For
    all-zero weights the maximum counts as 1. With one bit, q(w) = mean|w| sign(w),
    dq/dw := f'(w / mean|w|).

    Args:
        bits: 1 to 8.
        rule: the backward rule around each transition; default ``"identity"``.
        operand: which of the two.
        params: the rule's parameters.

    Raises:
        ConfigurationError: for 0 or more than 8 bits, an unknown rule or parameter.

    Source: Zhou et al. 2016, arXiv 1606.06160, sections 2.3 and 2.4.
    """

    default_rule = "identity"
    between_levels: ClassVar[bool] = True
    schedulable: ClassVar[tuple[str, ...]] = ("bits",)

    def __init__(
        self,
        bits: int = 2,
        rule: str | Surrogate | None = None,
        operand: Operand = "activations",
        **params: Any,
    ) -> None:
        super().__init__(rule, **params)
        self.bits = check_bits(bits)
        self.operand = operand

    @property
    def _binary_weights(self) -> bool:
        one = not isinstance(self.bits, Tensor) and self.bits == 1
        return one and self.operand == "weights"

    def _unit(self, w: Tensor) -> Tensor:
        """Return u in [0, 1]; 1/2 for all-zero weights."""
        t = torch.tanh(widen(w))
        largest = t.detach().abs().amax()
        return t / (2 * torch.where(largest > 0, largest, torch.ones_like(largest))) + 0.5

    def _mean(self, w: Tensor) -> Tensor:
        mean = widen(w).detach().abs().mean()
        return mean.clamp_min(torch.finfo(mean.dtype).tiny)

    def quantize(self, x: Tensor) -> Tensor:
        """Return the grid values in the shape and dtype of ``x``."""
        steps = 2**self.bits - 1
        if self.operand == "activations":
            scale = x.new_ones((), dtype=widen(x).dtype) / steps
            return SF.fake_quantize(x, scale, 0.0, 0 * steps, steps, self.rule)
        if self._binary_weights:
            mean = self._mean(x)
            return (SF.sign(widen(x) / mean, self.rule) * mean).to(x.dtype)
        return ((2 * SF.round(self._unit(x) * steps, self.rule) - steps) / steps).to(x.dtype)

    @torch.no_grad()
    def integer_levels(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return 0 .. n for activations, -n, -n + 2, .. n for weights; and 1 / n."""
        if self._binary_weights:
            return SF.hard_sign(x).int(), self._mean(x)
        steps = 2**self.bits - 1
        scale = x.new_ones((), dtype=widen(x).dtype) / steps
        if self.operand == "activations":
            return (widen(x) / scale).clamp_min(0).clamp_max(steps).round().int(), scale
        return (2 * (self._unit(x) * steps).round() - steps).int(), scale

    def extra_repr(self) -> str:
        """Return bits, operand and rule."""
        return f"bits={float(self.bits):g}, {self.operand}, {super().extra_repr()}"
