"""Evenly spaced levels around zero, as many as asked for, and their best scale."""

from __future__ import annotations

import torch
from torch import Tensor

from ste_lightning.errors import require

__all__ = ["GAUSSIAN_STEPS", "nearest"]

GAUSSIAN_STEPS = {2: 1.5956, 3: 1.2240, 4: 0.9957, 8: 0.5860, 16: 0.3352}
"""Number of levels -> their distance with the least squared error for standard normal numbers.

Source: Max 1960, IRE Transactions on Information Theory 6(1), table II.
"""


def nearest(x: Tensor, levels: int, distance: Tensor | float) -> Tensor:
    """Return the number 0 .. levels - 1 of the level nearest to each entry.

    Level k is (k - (levels - 1) / 2) distance: an odd number has zero among them.

    Args:
        x: numbers.
        levels: how many levels, at least two.
        distance: between neighbours, broadcastable against ``x``.
    """
    require(levels >= 2, "levels", levels, "use at least 2")
    half = (levels - 1) / 2
    return torch.floor(x / distance + half + 0.5).clamp(0, levels - 1)
