"""ReSTE's two indicators: how wrong, and how restless, a backward rule makes the gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from ste_lightning.errors import require
from ste_lightning.functional import Surrogate, hard_sign

__all__ = ["EstimatingError", "GradientStability"]


class _MeanOverSteps(Metric):
    """The last value (``last``) and, from ``compute``, the mean of the values since the reset."""

    full_state_update = True  # "last" is no sum
    total: Tensor
    steps: Tensor
    last: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name in ("total", "steps", "last"):
            default = torch.zeros((), dtype=torch.float64)
            self.add_state(name, default, dist_reduce_fx="mean", persistent=True)

    def _add(self, value: Tensor) -> None:
        self.last = value.detach().to(self.total.dtype)
        self.total = self.total + self.last
        self.steps = self.steps + 1

    def compute(self) -> Tensor:
        """Return the mean over the updates since the last reset, 0 without one."""
        return self.total / self.steps.clamp(min=1)


class EstimatingError(_MeanOverSteps):
    r"""Distance between the forward map and what the backward rule pretends it to be.

    .. math:: e = \lVert q(w) - f(w) \rVert_2

    with f the rule's virtual forward *with its current parameters*: under ReSTE's schedule the
    error falls as the order o grows.

    Source: Wu et al. 2023, arXiv 2308.06689, section 3.2. Their code evaluates f at the final o.
    """

    def update(self, weight: Tensor, rule: Surrogate, quantized: Tensor | None = None) -> None:
        """Take one layer's weights.

        Args:
            weight: latent weights, any shape.
            rule: the backward rule as it is now.
            quantized: q(w) without its scale, in the shape of ``weight``; default sign(w).

        Raises:
            ConfigurationError: if the shapes differ.
        """
        weight = weight.detach()
        quantized = hard_sign(weight) if quantized is None else quantized.detach()
        require(
            quantized.shape == weight.shape,
            "quantized.shape",
            tuple(quantized.shape),
            f"use the weights' shape {tuple(weight.shape)}",
        )
        difference = rule.virtual(weight) - quantized.to(weight.dtype)
        self._add(torch.linalg.vector_norm(difference, dtype=_accumulator(weight)))


class GradientStability(_MeanOverSteps):
    r"""Variance of the gradient's magnitudes; a small one means stable training.

    .. math:: s = \operatorname{var}_i \lvert \partial L / \partial w_i \rvert

    unbiased (n - 1).

    Source: Wu et al. 2023, arXiv 2308.06689, section 3.2.
    """

    def update(self, gradient: Tensor) -> None:
        """Take the gradient of one layer's latent weights, at least two elements."""
        require(
            gradient.numel() > 1, "gradient.numel()", gradient.numel(), "use two or more elements"
        )
        self._add(gradient.detach().to(_accumulator(gradient)).abs().var())


def _accumulator(x: Tensor) -> torch.dtype:
    """Half precision overflows in a sum of squares."""
    return torch.promote_types(x.dtype, torch.float32)
