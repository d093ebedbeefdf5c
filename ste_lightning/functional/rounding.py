"""Rounding with a backward rule, alone and fused with scaling and clipping."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ste_lightning.errors import require
from ste_lightning.functional.estimator.surrogate import Surrogate, surrogate

__all__ = ["cell_coordinate", "fake_quantize", "round", "widen"]


def widen(x: Tensor) -> Tensor:
    """Return ``x`` in float32 if it is narrower: 8 mantissa bits cannot place x / scale."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def cell_coordinate(v: Tensor) -> Tensor:
    """Return 2 (v - floor(v)) - 1: where ``v`` lies around the nearest rounding transition.

    -1 and +1 are the two levels, 0 the transition halfway between them.
    """
    return 2 * (v - v.floor()) - 1


class _Round(torch.autograd.Function):
    """y = round(v); dy/dv := f'(cell coordinate)."""

    generate_vmap_rule = True

    @staticmethod
    def forward(v: Tensor, rule: Surrogate) -> Tensor:
        return v.round()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        v, rule = inputs
        ctx.rule = rule
        residual = rule.residual(cell_coordinate(v))
        ctx.save_for_backward(*(() if residual is None else (residual,)))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        saved = ctx.saved_tensors
        return ctx.rule.pullback(grads[0], saved[0] if saved else None), None


def round(x: Tensor, rule: str | Surrogate = "identity", **params: Any) -> Tensor:
    """Round to the nearest integer, half to even, with a backward rule.

    dy/dx := f'(2 (x - floor(x)) - 1): the rule acts around each transition, scaled so that the
    two neighbouring integers lie at -1 and +1. ``identity`` and ``clipped`` give the classical
    straight-through estimator, ``approx``, ``tanh``, ... one bump per transition.

    Args:
        x: floating-point tensor of any shape; the result has its shape and dtype.
        rule: the backward rule, a name or a :class:`~ste_lightning.functional.Surrogate`.
        params: the rule's parameters, when ``rule`` is a name.

    Raises:
        ConfigurationError: for an unknown rule or parameter, or for integer input.

    Source: Bengio et al. 2013, arXiv 1308.3432; bumps: Gong et al. 2019, arXiv 1908.05033 (DSQ).
    """
    require(x.is_floating_point(), "x.dtype", x.dtype, "quantizers take floating-point tensors")
    result: Tensor = _Round.apply(x, surrogate(rule, **params))  # type: ignore[no-untyped-call]
    return result


class _FakeQuantize(torch.autograd.Function):
    """y = (clip(round(x / s + z), low, high) - z) s; dy/dx := f' inside the clip, 0 outside."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        x: Tensor,
        scale: Tensor,
        zero_point: Tensor | float,
        low: Tensor | float,
        high: Tensor | float,
        noise: Tensor | None,
        rule: Surrogate,
    ) -> Tensor:
        v = widen(x) / scale + zero_point
        # v + noise could round up to the next integer; the comparison cannot
        nearest = v.round() if noise is None else v.floor() + (noise < v - v.floor())
        return ((nearest.clamp_min(low).clamp_max(high) - zero_point) * scale).to(x.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, scale, zero_point, low, high, _, rule = inputs
        v = widen(x) / scale + zero_point
        # x / s of the element that set s may exceed the last level by rounding alone
        slack = 4 * torch.finfo(v.dtype).eps * (high - low)
        inside = (v >= low - slack) & (v <= high + slack)
        residual = rule.residual(cell_coordinate(v).to(x.dtype))
        ctx.rule = rule
        ctx.save_for_backward(*((inside,) if residual is None else (inside, residual)))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        inside, *residual = ctx.saved_tensors
        grad = ctx.rule.pullback(grads[0], residual[0] if residual else None)
        return grad * inside, None, None, None, None, None, None


def fake_quantize(
    x: Tensor,
    scale: Tensor,
    zero_point: Tensor | float,
    low: Tensor | float,
    high: Tensor | float,
    rule: Surrogate,
    noise: Tensor | None = None,
) -> Tensor:
    """Quantize to the levels ``low .. high`` and back, in one differentiable step.

    y = (clip(round(x / s + z), low, high) - z) s, dy/dx := f'(cell) 1[low <= x / s + z <= high].
    Scale, zero point and levels are constants in the backward pass. float16 and bfloat16 are
    computed in float32 and rounded once, at the end.

    Args:
        x: tensor of any shape; the result has its shape and dtype.
        scale: the step s > 0, broadcastable against ``x``.
        zero_point: z, broadcastable against ``x``.
        low, high: the smallest and the largest level.
        rule: the backward rule, in the cell coordinate of :func:`round`.
        noise: uniform on [0, 1) in the shape of ``x`` for stochastic rounding, up with
            probability v - floor(v);
            ``None`` rounds to the nearest, half to even.

    Source: Jacob et al. 2018, arXiv 1712.05877; stochastic: Gupta et al. 2015, arXiv 1502.02551.
    """
    result: Tensor = _FakeQuantize.apply(  # type: ignore[no-untyped-call]
        x, scale.detach(), zero_point, low, high, noise, rule
    )
    return result
