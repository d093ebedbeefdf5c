"""The straight-through estimator: a forward map with the derivative of a backward rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ste_lightning.functional.estimator.eager import is_plain_eager
from ste_lightning.functional.estimator.surrogate import Surrogate

__all__ = ["straight_through"]


class _StraightThrough(torch.autograd.Function):
    """y = forward_map(x); dy/dx := rule.derivative(x)."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, forward_map: Callable[[Tensor], Tensor], rule: Surrogate) -> Tensor:
        return forward_map(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, _, rule = inputs
        ctx.rule = rule
        # A parameter is kept anyway: saving it costs no memory and its mask need not be made.
        ctx.has_input = isinstance(x, torch.nn.Parameter) and rule.remembers != "nothing"
        residual = x if ctx.has_input else rule.residual(x)
        ctx.save_for_backward(*(() if residual is None else (residual,)))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        saved: tuple[Tensor, ...] = ctx.saved_tensors  # read once: checkpointing allows no more
        residual = saved[0] if saved else None
        pull = ctx.rule.coarse_gradient if ctx.has_input else ctx.rule.pullback
        return pull(grads[0], residual), None, None


def straight_through(x: Tensor, forward_map: Callable[[Tensor], Tensor], rule: Surrogate) -> Tensor:
    """Return ``forward_map(x)`` whose gradient is ``grad * rule.derivative(x)``.

    Works under ``torch.compile(fullgraph=True)``, ``torch.func.vmap`` and ``grad``, autocast,
    activation checkpointing and ``torch.export``; the rule decides what is saved for backward.

    Args:
        x: real tensor of any shape.
        forward_map: a shape- and dtype-preserving elementwise function, not differentiated.
        rule: the backward rule.

    Source: Bengio, Leonard and Courville 2013, arXiv 1308.3432; Yin et al. 2019,
    arXiv 1903.05662 (the "coarse gradient").
    """
    if not (x.requires_grad and torch.is_grad_enabled()) and is_plain_eager(x):
        return forward_map(x)  # a node for nothing would cost more than a small layer
    result: Tensor = _StraightThrough.apply(x, forward_map, rule)  # type: ignore[no-untyped-call]
    return result
