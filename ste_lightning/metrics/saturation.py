"""How many latent weights have left the backward rule's support and learn nothing any more."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from ste_lightning.errors import require
from ste_lightning.functional import Surrogate

__all__ = ["Saturation", "quantizer_derivative"]


class Saturation(Metric):
    """Share of elements whose surrogate derivative is zero, or below a tolerance.

        saturation = mean_i 1[|f'(x_i)| <= tolerance]

    A smooth rule has no edge: a tolerance such as 0.01 says from where on it counts as outside
    its support.

    Args:
        tolerance: default 0, only an exact zero counts.
        kwargs: passed on to :class:`torchmetrics.Metric`.

    Raises:
        ConfigurationError: for a negative tolerance.
    """

    full_state_update = False
    saturated: Tensor
    elements: Tensor

    def __init__(self, tolerance: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        require(tolerance >= 0, "tolerance", tolerance, "use 0 or a positive number")
        self.tolerance = tolerance
        for name in ("saturated", "elements"):
            self.add_state(name, torch.tensor(0), dist_reduce_fx="sum", persistent=True)

    def update(self, derivative: Tensor) -> None:
        """Take f'(x) of any shape; :func:`quantizer_derivative` finds it for a quantizer."""
        if self.tolerance == 0:
            alive = derivative.count_nonzero()
        else:
            alive = (derivative.abs() > self.tolerance).count_nonzero()
        self.saturated = self.saturated + derivative.numel() - alive
        self.elements = self.elements + derivative.numel()

    def compute(self) -> Tensor:
        """Return the share, 0 before the first update."""
        return self.saturated / self.elements.clamp(min=1)


def quantizer_derivative(quantizer: nn.Module, x: Tensor) -> Tensor:
    """Return the derivative that a quantizer pretends to have, per element of ``x``.

    For the maps ``sign`` and ``step`` it is the rule's f'(x), without the scale. For every other
    map, whose own clipping counts too, it is the gradient of sum(q(x)).

    Args:
        quantizer: a quantizer module.
        x: latent weights or inputs, any shape.
    """
    rule = getattr(quantizer, "rule", None)
    x = x.detach()
    if isinstance(rule, Surrogate) and getattr(quantizer, "map_name", "") in ("sign", "step"):
        return rule.derivative(x).detach()
    with torch.enable_grad():
        x = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(quantizer(x).sum(), x)
    return gradient
