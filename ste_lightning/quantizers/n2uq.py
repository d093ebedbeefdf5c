"""N2UQ: activations with learned thresholds and uniform levels, and its weights."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ste_lightning import functional as SF
from ste_lightning.functional import Surrogate
from ste_lightning.functional.rounding import widen
from ste_lightning.quantizers.calibrated import Steps
from ste_lightning.quantizers.levels import check_bits, reduced_axes
from ste_lightning.quantizers.quantizer import Quantizer
from ste_lightning.quantizers.registry import register_quantizer

__all__ = ["N2UQ", "N2UQWeights"]

RANGE = 2.0  # the levels cover [0, RANGE] before the output scale
NARROWEST = 1e-3  # a segment's least width


@register_quantizer("n2uq")
class N2UQ(Steps):
    """q(x) = scale_out d #{i : scale_in x > T_i}, d = 2 / n, n = 2^b - 1 learned thresholds.

    Segment i has the learned width a_i >= 0.001 and its threshold T_i in the middle; the first
    starts at ``start``. Gradients: the generalized straight-through estimator,
    :func:`~ste_lightning.functional.threshold_quantize`, exact in x, ``start``, ``widths``,
    ``scale_in`` and ``scale_out``. The paper trains these parameters with a tenth of the
    learning rate and no weight decay.

    Args:
        bits: 1 to 8.
        rule: the backward rule along each segment; ``"identity"`` is the paper's G-STE.
        params: the rule's parameters.

    Raises:
        ConfigurationError: for 0 or more than 8 bits, an unknown rule or parameter.

    Source: Liu et al. 2022, arXiv 2111.14826, section 3.
    """

    default_rule = "identity"
    learned_steps: ClassVar[tuple[str, ...]] = ("scale_in", "scale_out")
    operands: ClassVar[frozenset[str]] = frozenset({"activations"})
    between_levels: ClassVar[bool] = True

    def __init__(self, bits: int = 2, rule: str | Surrogate | None = None, **params: Any) -> None:
        super().__init__(rule, **params)
        self.bits = check_bits(bits)
        self.steps = int(2**bits) - 1
        self.start = nn.Parameter(torch.zeros(()))
        self.widths = nn.Parameter(torch.full((self.steps,), RANGE / self.steps))
        self.scale_in = nn.Parameter(torch.ones(()))
        self.scale_out = nn.Parameter(torch.ones(()))

    def first_step(self, name: str, x: Tensor) -> Tensor:
        """Return 1, where both scales start."""
        return torch.ones((), device=x.device)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Start from equal widths and from scales of 1 again."""
        super().reset_parameters()
        self.start.zero_()
        self.widths.fill_(RANGE / self.steps)
        self.scale_in.fill_(1)
        self.scale_out.fill_(1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the quantized values; a scale below zero starts again."""
        self.keep_positive(x)
        return super().forward(x)

    def _count(self, x: Tensor) -> Tensor:
        wide = widen(x)
        dtype = torch.promote_types(wide.dtype, widen(self.widths).dtype)
        widths = self.widths.to(dtype).clamp_min(NARROWEST)
        u = wide.to(dtype) * self.scale_in.to(dtype)
        return SF.threshold_quantize(u, self.start.to(dtype), widths, self.rule)

    def thresholds(self) -> Tensor:
        """Return T_i / scale_in, (n,): above threshold i, in units of x, begins level i + 1."""
        widths = widen(self.widths).clamp_min(NARROWEST)
        middles = widths.cumsum(0) - widths / 2
        return (self.start + middles) / self.scale_in

    def _step(self, count: Tensor) -> Tensor:
        return self.scale_out.to(count.dtype) * (RANGE / self.steps)

    def quantize(self, x: Tensor) -> Tensor:
        """Return multiples of scale_out d in the shape and dtype of ``x``."""
        count = self._count(x)
        return (count * self._step(count)).to(x.dtype)

    @torch.no_grad()
    def integer_levels(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return 0 .. n, and scale_out d."""
        count = self._count(x)
        return count.int(), self._step(count)

    def extra_repr(self) -> str:
        """Return the bits and the rule."""
        return f"bits={self.bits}, {super().extra_repr()}"


@register_quantizer("n2uq_weights")
class N2UQWeights(Quantizer):
    """q(w) = S (2 round(n (v + 1) / 2) / n - 1), v = clip(w / S, -1, 1), n = 2^b - 1.

    S = (n / 2^(b-1)) mean|w| per output channel, a constant in the backward pass;
    dq/dw := f'(cell) 1[|w| <= S]. (The authors' code multiplies with 1 / S and does not clip.)
    With one bit, q(w) = mean|w| sign(w).

    Args:
        bits: 1 to 8.
        rule: the backward rule around each transition; default ``"identity"``.
        channel_dim: the output channel's axis.
        params: the rule's parameters.

    Raises:
        ConfigurationError: for 0 or more than 8 bits, an unknown rule or parameter.

    Source: Liu et al. 2022, arXiv 2111.14826, section 3.4.
    """

    default_rule = "identity"
    operands: ClassVar[frozenset[str]] = frozenset({"weights"})
    between_levels: ClassVar[bool] = True

    def __init__(
        self,
        bits: int = 2,
        rule: str | Surrogate | None = None,
        channel_dim: int = 0,
        **params: Any,
    ) -> None:
        super().__init__(rule, **params)
        self.bits = check_bits(bits)
        self.steps = int(2**bits) - 1
        self.channel_dim = channel_dim

    @torch.no_grad()
    def _bound(self, x: Tensor) -> Tensor:
        x = widen(x)
        axes = reduced_axes(x, "channel", self.channel_dim)
        mean = x.abs().mean(dim=axes, keepdim=True) if axes else x.abs()
        bound: Tensor = mean * (2 * self.steps / (self.steps + 1))
        return bound.clamp_min(torch.finfo(x.dtype).tiny / torch.finfo(x.dtype).eps)

    def quantize(self, x: Tensor) -> Tensor:
        """Return odd multiples of S / n in the shape and dtype of ``x``."""
        bound = self._bound(x)
        if self.steps == 1:
            # sign, which also says where 0 goes, of the clipped weights
            v = (widen(x) / bound).clamp(-1, 1)
            return (SF.sign(v, self.rule) * bound).to(x.dtype)
        half = self.steps / 2
        return SF.fake_quantize(x, bound / half, half, 0, self.steps, self.rule)

    @torch.no_grad()
    def integer_levels(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the odd numbers -n, -n + 2, .. n, and S / n."""
        bound = self._bound(x)
        if self.steps == 1:
            return SF.hard_sign(x).int(), bound
        v = widen(x) / (bound / (self.steps / 2)) + self.steps / 2
        levels = 2 * v.round().clamp(0, self.steps) - self.steps
        return levels.int(), bound / self.steps

    def extra_repr(self) -> str:
        """Return the bits and the rule."""
        return f"bits={self.bits}, {super().extra_repr()}"
