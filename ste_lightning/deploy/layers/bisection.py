"""Thresholds of staircases, found by evaluating them on ever nearer neighbours."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["LARGEST", "least", "ranked_float"]

LARGEST = 0x7F7FFFFF  # the rank of the largest finite float32


def ranked_float(ranks: Tensor) -> Tensor:
    """Return the float32 with each rank: ranks are ordered as the floats, 0.0 has rank 0."""
    magnitude = ranks.abs().to(torch.int32).view(torch.float32)
    return torch.where(ranks < 0, -magnitude, magnitude)


def least(reached: Callable[[Tensor], Tensor], low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Return the largest integers that do not reach something, and the next ones, which do.

    Args:
        reached: whether integers do, element by element; once reached, larger ones do too.
        low: integers that do not.
        high: integers that do.
    """
    while bool((high - low > 1).any()):
        # Up, so that where nothing is left to find, what ``high`` is known to reach is asked again.
        middle = torch.div(low + high + 1, 2, rounding_mode="floor")
        there = reached(middle)
        high = torch.where(there, middle, high)
        low = torch.where(there, low, middle)
    return low, high
