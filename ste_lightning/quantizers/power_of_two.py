"""Grids of powers of two and of their sums: products become shifts and adds."""

from __future__ import annotations

import itertools
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ste_lightning.functional import Surrogate
from ste_lightning.functional.learned_scale import SMALLEST
from ste_lightning.functional.rounding import widen
from ste_lightning.quantizers.calibrated import Calibrated
from ste_lightning.quantizers.levels import check_bits
from ste_lightning.quantizers.quantizer import Operand
from ste_lightning.quantizers.registry import register_quantizer

__all__ = ["APoT", "PowerOfTwo", "additive_powers", "powers"]


def powers(bits: int) -> tuple[int, ...]:
    """Return 0 and the powers of two 1, 2, .. in ``bits`` bits, as multiples of the smallest.

    2^bits magnitudes: 0 and 2^0 .. 2^(2^bits - 2).
    """
    return (0, *(2**i for i in range(2**bits - 1)))


def additive_powers(bits: int) -> tuple[int, ...]:
    """Return APoT's magnitudes in ``bits`` bits, as multiples of the smallest, sorted.

    Sums of n = bits // 2 terms p_j in {0, 2^-j, 2^-(j+n), 2^-(j+2n)} (two bits each), and, for
    odd ``bits``, one term of one bit between the second and the third power.
    """
    n, odd = divmod(bits, 2)
    last = 3 * n + odd  # the smallest power is 2^-last
    terms = [[0] for _ in range(n)]
    for j, term in enumerate(terms, start=1):
        term += [2 ** (last - j - i * n - (odd if i == 2 else 0)) for i in range(3)]
    if odd:
        terms.append([0, 2 ** (last - 2 * n - 1)])
    return tuple(sorted({sum(choice) for choice in itertools.product(*terms)}))


class _Grid(torch.autograd.Function):
    """y = alpha nearest(clip(x / alpha)) with the gradients of a learned clipping value."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, alpha: Tensor, grid: Tensor, rule: Surrogate) -> Tensor:
        bound = widen(alpha).clamp_min(SMALLEST)
        v = (widen(x) / bound).clamp(-1, 1)
        return (_nearest(v, grid) * bound).to(x.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, alpha, grid, rule = inputs
        ctx.save_for_backward(x, alpha, grid)
        ctx.rule = rule

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, alpha, grid = ctx.saved_tensors
        v = widen(x) / widen(alpha).clamp_min(SMALLEST)
        clipped = v.clamp(-1, 1)
        grad = widen(grads[0])
        inside = (v >= grid[0]) & (v <= 1)
        above = torch.bucketize(clipped.contiguous(), grid).clamp(1, grid.numel() - 1)
        low, high = grid[above - 1], grid[above]
        slope = ctx.rule.derivative(2 * (clipped - low) / (high - low) - 1) * inside
        by_alpha = grad * (_nearest(clipped, grid) - slope * clipped)
        return (
            (grad * slope).to(x.dtype),
            by_alpha.sum_to_size(alpha.shape).to(alpha.dtype),
            None,
            None,
        )


def _nearest(v: Tensor, grid: Tensor) -> Tensor:
    """Return the nearest grid value; NaN, which a search would find at the end, stays NaN."""
    return torch.where(v.isnan(), v, grid[_index(v, grid)])


def _index(v: Tensor, grid: Tensor) -> Tensor:
    """Return the index of the nearest grid value; ties go to the lower."""
    return torch.bucketize(v.contiguous(), (grid[1:] + grid[:-1]) / 2)


class _PowerGrid(Calibrated):
    """What the two grids share: a learned clipping value alpha and the projection."""

    default_rule = "identity"
    between_levels: ClassVar[bool] = True
    learned_steps: ClassVar[tuple[str, ...]] = ("alpha",)
    most_bits: ClassVar[int] = 8
    multiples: Tensor

    def __init__(
        self,
        bits: int = 4,
        rule: str | Surrogate | None = None,
        signed: bool = True,
        operand: Operand = "activations",
        **params: Any,
    ) -> None:
        super().__init__(rule, operand, **params)
        self.bits: int = check_bits(bits, low=2, high=self.most_bits)
        self.signed = signed
        self.alpha = nn.Parameter(torch.ones(()))
        # recomputed, not saved: it follows from the arguments
        self.register_buffer("multiples", torch.tensor(self._levels()), persistent=False)

    def _levels(self) -> list[int]:
        """Return all levels as multiples of the smallest step."""
        magnitudes = self._magnitudes(self.bits - 1 if self.signed else self.bits)
        negative = [-m for m in reversed(magnitudes[1:])] if self.signed else []
        return [*negative, *magnitudes]

    def restore_transient(self) -> None:
        """Compute the levels again."""
        self.multiples = torch.tensor(self._levels(), device=self.alpha.device)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Forget the data: the clipping value is 1 until the next training batch."""
        super().reset_parameters()
        self.alpha.fill_(1)
        self.multiples.copy_(torch.tensor(self._levels()))

    @staticmethod
    def _magnitudes(bits: int) -> tuple[int, ...]:
        raise TypeError("a power grid must define _magnitudes(bits)")

    def first_step(self, name: str, x: Tensor) -> Tensor:
        """Return three root mean squares."""
        return 3 * widen(x).square().mean().sqrt()

    def _set_from(self, x: Tensor) -> None:
        self.alpha.copy_(self.first_step("alpha", x).clamp_min(SMALLEST))

    def _grid(self, dtype: torch.dtype) -> Tensor:
        """Return the grid in [-1, 1] or [0, 1]."""
        return self.multiples.to(dtype) / self.multiples[-1].to(dtype)

    def quantize(self, x: Tensor) -> Tensor:
        """Return the nearest grid values in the shape and dtype of ``x``."""
        grid = self._grid(widen(x).dtype)
        y: Tensor = _Grid.apply(x, self.alpha, grid, self.rule)  # type: ignore[no-untyped-call]
        return y

    @torch.no_grad()
    def integer_levels(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return multiples of the smallest step, and that step."""
        wide = widen(x)
        bound = widen(self.alpha).clamp_min(SMALLEST)
        v = (wide / bound).clamp(-1, 1)
        levels = self.multiples[_index(v, self._grid(wide.dtype))]
        return levels.int(), bound.to(wide.dtype) / self.multiples[-1].to(wide.dtype)

    def extra_repr(self) -> str:
        """Return bits, sign and the rule."""
        sign = "signed" if self.signed else "unsigned"
        return f"bits={self.bits}, {sign}, {super().extra_repr()}"


@register_quantizer("power_of_two")
class PowerOfTwo(_PowerGrid):
    """q(x) = alpha nearest(clip(x / alpha)) on {0, +-1, +-1/2, +-1/4, ...}, alpha learned.

    2^b - 1 signed levels, 2^b unsigned ones. dq/dx := f'(cell) inside [-alpha, alpha], 0
    outside; dq/dalpha = q(v) - f' v inside (v = x / alpha), sign(x) outside. alpha starts at
    three root mean squares.

    Args:
        bits: 2 to 6, unsigned 2 to 5: more would add only levels below 2^-30.
        rule: the backward rule between neighbouring levels; default ``"identity"``.
        signed: whether there are negative levels.
        operand: what is quantized.
        params: the rule's parameters.

    Raises:
        ConfigurationError: for too few or too many bits, an unknown rule or parameter.

    Source: Zhou et al. 2017, arXiv 1702.03044 (INQ); as in Li et al. 2020, arXiv 1909.13144, eq. 2.
    """

    most_bits: ClassVar[int] = 6

    def __init__(
        self,
        bits: int = 4,
        rule: str | Surrogate | None = None,
        signed: bool = True,
        operand: Operand = "activations",
        **params: Any,
    ) -> None:
        check_bits(bits, low=2, high=6 if signed else 5)
        super().__init__(bits, rule, signed, operand, **params)

    @staticmethod
    def _magnitudes(bits: int) -> tuple[int, ...]:
        return powers(bits)


@register_quantizer("apot")
class APoT(_PowerGrid):
    """q(x) = alpha nearest(clip(x / alpha)) on sums of powers of two, alpha learned.

    The magnitudes are those of :func:`additive_powers`, normalized to [0, 1]; gradients as in
    :class:`PowerOfTwo` (the paper's reparameterized clipping function).

    Args:
        bits: 2 to 8; the sign takes one.
        rule: the backward rule between neighbouring levels; default ``"identity"``.
        signed: whether there are negative levels.
        operand: what is quantized.
        params: the rule's parameters.

    Raises:
        ConfigurationError: for fewer than 2 or more than 8 bits, an unknown rule or parameter.

    Source: Li et al. 2020, arXiv 1909.13144, sections 2.2 and 2.3.
    """

    @staticmethod
    def _magnitudes(bits: int) -> tuple[int, ...]:
        return additive_powers(bits)
