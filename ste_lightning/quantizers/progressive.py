"""Binary quantizers whose forward map hardens during training: ProgressiveSign and LSBQ."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from ste_lightning import functional as SF
from ste_lightning.errors import require
from ste_lightning.functional import Surrogate
from ste_lightning.functional.rounding import widen
from ste_lightning.quantizers.levels import check_granularity, reduced_axes
from ste_lightning.quantizers.quantizer import Quantizer
from ste_lightning.quantizers.registry import register_quantizer

__all__ = ["LSBQ", "Progressive"]


@register_quantizer("progressive")
class Progressive(Quantizer):
    """q(x) = clip(x / rho, -1, 1) in training, sign(x) in evaluation and once rho is 0.

    dq/dx := f'(x).

    Args:
        rule: the backward rule, on x; default ``"identity"``.
        rho: the ramp's width in (0, 1], or 0 for the sign; ``None`` attaches the schedule
            ``"progressive"``, rho = 4^(-10 progress).
        params: the rule's parameters.

    Raises:
        ConfigurationError: for ``rho`` outside [0, 1], an unknown rule or parameter.

    Source: bitorch's ProgressiveSign; Jin et al. 2025, arXiv 2503.15748 (PARQ).
    """

    bits = 1.0
    default_rule = "identity"
    schedulable: ClassVar[tuple[str, ...]] = ("rho",)

    def __init__(
        self, rule: str | Surrogate | None = None, rho: float | None = None, **params: Any
    ) -> None:
        super().__init__(rule, **params)
        require(rho is None or 0 <= rho <= 1, "rho", rho, "use a number from 0 to 1")
        self.rho: float | Tensor = 0.0 if rho is None else rho
        if rho is None:
            self.schedule("rho", "progressive")

    def quantize(self, x: Tensor) -> Tensor:
        """Return the ramp (in training) or the sign, in the shape and dtype of ``x``."""
        if not self.training:
            return SF.sign(x, self.rule)
        return SF.replace_value(x, SF.soft_sign(x.detach(), self.rho), self.rule)

    def integer_levels(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return -1 and +1, and the scale 1."""
        return SF.hard_sign(x).int(), x.new_ones(())


@register_quantizer("lsbq")
class LSBQ(Quantizer):
    """q(w) = v sign(w), v = mean|w|: the least-squares binary quantizer; dq/dw := f'(w).

    In training with rho > 0 the proximal map clip(w / rho, -v, v) takes its place; schedule it
    with ``"parq"``. v is a constant in the backward pass.

    Args:
        rule: the backward rule, on w; default ``"identity"`` (PARQ's update).
        rho: the ramp's width in [0, 1]; 0 is the sign.
        granularity: one v per ``"tensor"`` or per ``"channel"`` (PARQ).
        channel_dim: the output channel's axis.
        params: the rule's parameters.

    Raises:
        ConfigurationError: for ``rho`` outside [0, 1], an unknown rule, parameter, granularity.

    Source: Pouransari et al. 2020, arXiv 2001.02786; Jin et al. 2025, arXiv 2503.15748 (PARQ).
    """

    bits = 1.0
    default_rule = "identity"
    operands: ClassVar[frozenset[str]] = frozenset({"weights"})
    schedulable: ClassVar[tuple[str, ...]] = ("rho",)

    def __init__(
        self,
        rule: str | Surrogate | None = None,
        rho: float = 0.0,
        granularity: str = "channel",
        channel_dim: int = 0,
        **params: Any,
    ) -> None:
        super().__init__(rule, **params)
        require(0 <= rho <= 1, "rho", rho, "use a number from 0 to 1")
        self.rho: float | Tensor = rho
        self.granularity = check_granularity(granularity)
        self.channel_dim = channel_dim

    @torch.no_grad()
    def _magnitude(self, x: Tensor) -> Tensor:
        axes = reduced_axes(x, self.granularity, self.channel_dim)
        x = widen(x).abs()
        return x.mean(dim=axes, keepdim=True) if axes else x

    def quantize(self, x: Tensor) -> Tensor:
        """Return -v and +v (or the ramp between) in the shape and dtype of ``x``."""
        rho = self.rho if self.training else 0.0
        return SF.replace_value(x, SF.soft_sign(x.detach(), rho, self._magnitude(x)), self.rule)

    @torch.no_grad()
    def integer_levels(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return -1 and +1, and v."""
        return SF.hard_sign(x).int(), self._magnitude(x)

    def extra_repr(self) -> str:
        """Return the rule and the granularity."""
        return f"{super().extra_repr()}, granularity={self.granularity!r}"
