"""PACT: activations clipped at a learned value."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ste_lightning import functional as SF
from ste_lightning.errors import require
from ste_lightning.functional import Surrogate
from ste_lightning.functional.learned_scale import SMALLEST
from ste_lightning.functional.rounding import widen
from ste_lightning.quantizers.calibrated import Steps
from ste_lightning.quantizers.levels import check_bits
from ste_lightning.quantizers.registry import register_quantizer

__all__ = ["PACT"]


@register_quantizer("pact")
class PACT(Steps):
    """q(x) = round(clip(x, 0, alpha) n / alpha) alpha / n, n = 2^b - 1, alpha learned.

    dq/dx := f'(cell) 1[0 < x < alpha], dq/dalpha = 1[x >= alpha]. It takes the place of ReLU.
    The paper decays alpha (L2) so that it shrinks from its large start.

    Args:
        bits: 1 to 8.
        rule: the backward rule around each transition; default ``"identity"``.
        alpha: the first clipping value; 10 as in the paper.
        params: the rule's parameters.

    Raises:
        ConfigurationError: for 0 or more than 8 bits, ``alpha`` not positive, an unknown rule.

    Source: Choi et al. 2018, arXiv 1805.06085, section 3.
    """

    default_rule = "identity"
    operands: ClassVar[frozenset[str]] = frozenset({"activations"})
    between_levels: ClassVar[bool] = True
    schedulable: ClassVar[tuple[str, ...]] = ("bits",)
    learned_steps: ClassVar[tuple[str, ...]] = ("alpha",)

    def __init__(
        self,
        bits: int = 4,
        rule: str | Surrogate | None = None,
        alpha: float = 10.0,
        **params: Any,
    ) -> None:
        super().__init__(rule, **params)
        require(alpha > 0, "alpha", alpha, "use a positive number")
        self.bits = check_bits(bits)
        self.first_alpha = float(alpha)
        self.alpha = nn.Parameter(torch.tensor(self.first_alpha))

    def first_step(self, name: str, x: Tensor) -> Tensor:
        """Return the first clipping value, whatever ``x`` is."""
        return torch.tensor(self.first_alpha, device=x.device)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Start from the first clipping value again."""
        super().reset_parameters()
        self.alpha.fill_(self.first_alpha)

    def forward(self, x: Tensor) -> Tensor:
        """Return the quantized values; a clipping value below zero starts again."""
        self.keep_positive(x)
        return super().forward(x)

    def quantize(self, x: Tensor) -> Tensor:
        """Return multiples of alpha / n in the shape and dtype of ``x``."""
        return SF.clip_quantize(x, self.alpha, 2**self.bits - 1, self.rule)

    @torch.no_grad()
    def integer_levels(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return 0 .. n, and alpha / n."""
        steps = 2**self.bits - 1
        scale = widen(self.alpha).clamp_min(SMALLEST).to(widen(x).dtype) / steps
        return (widen(x) / scale).clamp_min(0).clamp_max(steps).round().int(), scale

    def extra_repr(self) -> str:
        """Return the bits and the rule."""
        return f"bits={float(self.bits):g}, {super().extra_repr()}"
