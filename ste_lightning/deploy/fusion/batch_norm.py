"""A batch norm of known statistics as a line."""

from __future__ import annotations

from torch import Tensor

__all__ = ["norm_line"]


def norm_line(
    weight: Tensor | None, bias: Tensor | None, mean: Tensor, variance: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """Return a and b, float64 per channel, where the norm is y = a x + b.

    Args:
        weight, bias: ``None`` for 1 and 0.
        mean, variance: the running statistics.
        eps: what is added to the variance.
    """
    factor = (variance.double() + eps).rsqrt()
    if weight is not None:
        factor = factor * weight.double()
    shift = -mean.double() * factor
    return factor, shift if bias is None else shift + bias.double()
