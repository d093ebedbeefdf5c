"""Quantization whose scale, offset or clipping value is learned by gradient descent."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ste_lightning.functional.estimator.eager import is_plain_eager
from ste_lightning.functional.estimator.surrogate import Surrogate
from ste_lightning.functional.products.learned_operand import SMALLEST, Learned
from ste_lightning.functional.rounding import cell_coordinate, widen
from ste_lightning.functional.rules.windows import Identity

__all__ = ["SMALLEST", "clip_quantize", "learned_scale_quantize", "scale_gradient"]


class _ScaleGradient(torch.autograd.Function):
    """y = x; dy/dx := factor."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, factor: float) -> Tensor:
        return x.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.factor = inputs[1]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0] * ctx.factor, None


def scale_gradient(x: Tensor, factor: float) -> Tensor:
    """Return ``x`` whose gradient is multiplied by ``factor``."""
    result: Tensor = _ScaleGradient.apply(x, factor)  # type: ignore[no-untyped-call]
    return result


class _LearnedScale(torch.autograd.Function):
    """y = round(clip((x - b) / s, low, high)) s + b with LSQ's gradients in x, s and b."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        x: Tensor, scale: Tensor, offset: Tensor, low: float, high: float, rule: Surrogate
    ) -> Tensor:
        if _compiles(x, scale, offset):
            return Learned(scale, offset, low, high).quantize(x, torch.empty_like(x))
        s = widen(scale).clamp_min(SMALLEST).to(widen(x).dtype)
        start = (offset / s).round() * s
        v = (widen(x) - start) / s
        return (v.clamp(low, high).round() * s + start).to(x.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, scale, offset, low, high, rule = inputs
        ctx.save_for_backward(x, scale, offset)
        ctx.low, ctx.high, ctx.rule = low, high, rule

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, offset = ctx.saved_tensors
        low, high = ctx.low, ctx.high
        constant = type(ctx.rule) is Identity and grads[0].dtype == torch.float32
        if constant and not torch.is_grad_enabled() and _compiles(x, scale, offset):
            own = grads[0].clone(memory_format=torch.contiguous_format)
            by_x, by_learned = Learned(scale, offset, low, high).differentiate(own, x)
            return by_x, *by_learned, None, None, None
        s = widen(scale).clamp_min(SMALLEST).to(widen(x).dtype)
        v = (widen(x) - (offset / s).round() * s) / s
        grad = widen(grads[0])
        inside = (v > low) & (v < high)
        slope = ctx.rule.derivative(cell_coordinate(v)) * inside
        clipped = v.clamp(low, high)
        # d/ds of s round(v): round(v) + s f' dv/ds, and dv/ds = -v / s
        by_scale = grad * torch.where(inside, clipped.round() - slope * clipped, clipped)
        by_offset = grad * (1 - slope)
        return (
            (grad * slope).to(x.dtype),
            _sum_to(by_scale, scale).to(scale.dtype),
            _sum_to(by_offset, offset).to(offset.dtype),
            None,
            None,
            None,
        )


def _compiles(x: Tensor, scale: Tensor, offset: Tensor) -> bool:
    """Return whether compiled code can take the operands: not inside a transform of torch."""
    if type(x) not in (Tensor, torch.nn.Parameter) or not is_plain_eager(x):
        return False
    same = x.dtype == scale.dtype == offset.dtype == torch.float32 and offset.shape == scale.shape
    each = scale.numel() == 1 or scale.shape == (len(x), *[1] * (x.dim() - 1))
    return same and each and scale.dim() <= x.dim() and x.is_cpu and x.is_contiguous()


def _sum_to(x: Tensor, like: Tensor) -> Tensor:
    """Return the sum in the shape of ``like``, in float64 on the CPU, as compiled code sums."""
    if x.device.type != "cpu":  # torch 2.6 compiles no is_cpu in a backward pass
        return x.sum_to_size(like.shape)
    return x.double().sum_to_size(like.shape)


def learned_scale_quantize(
    x: Tensor, scale: Tensor, offset: Tensor, low: float, high: float, rule: Surrogate
) -> Tensor:
    """Quantize with a learned step size s and offset b.

    With v = (x - b) / s: y = s round(clip(v, low, high)) + b,
    dy/dx = f'(cell) 1[low < v < high], dy/ds = round(v) - f' v inside, ``low`` or ``high``
    outside, dy/db = 1 - f' inside, 1 outside. b is rounded to whole steps, so that levels stay
    integers and 0 stays exact where it is within reach.

    Args:
        x: tensor of any shape; the result has its shape and dtype.
        scale: the learned step, broadcastable against ``x``; at or below 0 it is used as 1e-8.
        offset: the learned offset, of the scale's shape or 0-d.
        low, high: the smallest and the largest level.
        rule: the backward rule, in the cell coordinate of
            :func:`~ste_lightning.functional.round`.

    Source: Esser et al. 2020, arXiv 1902.08153 (LSQ), section 2.1; Bhalgat et al. 2020,
    arXiv 2004.09576 (LSQ+), section 3.2.
    """
    result: Tensor = _LearnedScale.apply(  # type: ignore[no-untyped-call]
        x, scale, offset, low, high, rule
    )
    return result


class _ClipQuantize(torch.autograd.Function):
    """y = round(clip(x, 0, alpha) n / alpha) alpha / n with PACT's gradients in x and alpha."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, alpha: Tensor, steps: Tensor | float, rule: Surrogate) -> Tensor:
        scale = widen(alpha).clamp_min(SMALLEST).to(widen(x).dtype) / steps
        return ((widen(x) / scale).clamp_min(0).clamp_max(steps).round() * scale).to(x.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, alpha, steps, rule = inputs
        bound = widen(alpha).clamp_min(SMALLEST)
        wide = widen(x)
        residual = rule.residual(cell_coordinate(wide * (steps / bound)).to(x.dtype))
        masks = ((wide > 0) & (wide < bound), wide >= bound)
        ctx.save_for_backward(alpha, *masks, *(() if residual is None else (residual,)))
        ctx.rule = rule

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        alpha, inside, above, *residual = ctx.saved_tensors
        by_x = ctx.rule.pullback(grads[0], residual[0] if residual else None) * inside
        by_alpha = (widen(grads[0]) * above).sum_to_size(alpha.shape).to(alpha.dtype)
        return by_x, by_alpha, None, None


def clip_quantize(x: Tensor, alpha: Tensor, steps: Tensor | float, rule: Surrogate) -> Tensor:
    """Quantize [0, alpha] in ``steps`` equal steps, with a learned clipping value.

    y = round(clip(x, 0, alpha) n / alpha) alpha / n, dy/dx = f'(cell) 1[0 < x < alpha],
    dy/dalpha = 1[x >= alpha].

    Args:
        x: tensor of any shape; the result has its shape and dtype.
        alpha: the learned bound, 0-d or broadcastable; at or below 0 it is used as 1e-8.
        steps: n, the number of steps, 2^bits - 1.
        rule: the backward rule, in the cell coordinate of
            :func:`~ste_lightning.functional.round`.

    Source: Choi et al. 2018, arXiv 1805.06085 (PACT), section 3.
    """
    result: Tensor = _ClipQuantize.apply(x, alpha, steps, rule)  # type: ignore[no-untyped-call]
    return result
