"""Learned thresholds with the generalized straight-through estimator, and value replacement."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ste_lightning.functional.estimator.surrogate import Surrogate
from ste_lightning.functional.rounding import round
from ste_lightning.functional.rules import Identity

__all__ = ["replace_value", "threshold_quantize"]


class _ReplaceValue(torch.autograd.Function):
    """y = value; dy/dcarrier := rule.derivative(carrier)."""

    generate_vmap_rule = True

    @staticmethod
    def forward(carrier: Tensor, value: Tensor, rule: Surrogate) -> Tensor:
        return value.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        carrier, _, rule = inputs
        residual = rule.residual(carrier)
        ctx.rule = rule
        ctx.save_for_backward(*(() if residual is None else (residual,)))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        saved = ctx.saved_tensors
        return ctx.rule.pullback(grads[0], saved[0] if saved else None), None, None


def replace_value(carrier: Tensor, value: Tensor, rule: Surrogate) -> Tensor:
    """Return ``value`` with the gradient of ``rule`` at ``carrier``; one shape and dtype.

    Where a forward map needs tensors besides its input,
    :func:`~ste_lightning.functional.straight_through` cannot take it; this can. The result is
    exactly ``value``, unlike ``carrier + (value - carrier).detach()``.
    """
    result: Tensor = _ReplaceValue.apply(  # type: ignore[no-untyped-call]
        carrier, value.detach(), rule
    )
    return result


def threshold_quantize(u: Tensor, start: Tensor, widths: Tensor, rule: Surrogate) -> Tensor:
    """Count the thresholds below ``u``: a non-uniform quantizer with uniform levels 0 .. n.

    The edges E_0 = ``start``, E_i = E_(i-1) + a_i cut the line into segments, one per
    transition; threshold i lies in the middle of segment i. Backward (the generalized STE):
    the count is replaced by the piecewise linear function that rises by 1 along each segment,
    so inside segment i: d/du = f' / a_i, d/dstart = -f' / a_i, d/da_j = -f' / a_i for j < i,
    d/da_i = -f' (u - E_(i-1)) / a_i^2; all are 0 outside.

    Args:
        u: tensor of any shape, in the dtype of ``start`` and ``widths``.
        start: E_0, 0-d.
        widths: a, 1-d with n positive elements.
        rule: the backward rule, in the coordinate that is -1 and +1 at a segment's ends.

    Returns:
        The counts, in the shape and dtype of ``u``.

    Source: Liu et al. 2022, arXiv 2111.14826 (N2UQ), sections 3.2 and 3.3.
    """
    edges = torch.cat([start.reshape(1), start + widths.cumsum(0)])
    with torch.no_grad():
        thresholds = (edges[:-1] + edges[1:]) / 2
        dense = u.contiguous()  # torch warns of what it copies itself
        count = torch.bucketize(dense, thresholds).to(u.dtype)
        # (E_(i-1), E_i] is segment i - 1, counted from 0; -1 and n lie outside
        segment = torch.bucketize(dense, edges) - 1
        inside = (segment >= 0) & (segment < widths.numel())
        segment = segment.clamp(0, widths.numel() - 1)
    rise = segment + (u - edges[segment]) / widths[segment]
    rise = torch.where(inside, rise, count)
    return replace_value(round(rise, rule), count, Identity())
