"""Where a uniform grid should lie for given data: its extremes, or the least squared error."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["RANGES", "least_squares_shrinkage"]

RANGES = ("minmax", "mse")
_SHRINKAGES = tuple(i / 20 for i in range(20, 3, -1))  # 1.0 down to 0.2 of the extremes


def least_squares_shrinkage(
    x: Tensor, axes: tuple[int, ...], quantize: Callable[[float], Tensor]
) -> Tensor:
    """Return the factor in {0.2, 0.25, ..., 1} by which to shrink the range of ``x``.

    argmin_c sum (x - quantize(c))^2 over ``axes``, by trying all; ties go to the larger.

    Args:
        x: the data.
        axes: over which one range is shared.
        quantize: returns ``x`` quantized with its extremes multiplied by a factor.

    Returns:
        The factors, with size 1 along ``axes``.

    Source: as in Banner et al. 2019, arXiv 1810.05723 (clipping for least squares).
    """
    best: Tensor | None = None
    factor = error = x
    for shrinkage in _SHRINKAGES:
        error = (quantize(shrinkage) - x).square().sum(dim=axes, keepdim=True)
        if best is None:
            best, factor = error, torch.ones_like(error)
            continue
        better = error < best
        factor = torch.where(better, torch.full_like(error, shrinkage), factor)
        best = torch.minimum(best, error)
    return factor
