"""The float layers that follow the last packed one, where one pass can compute them.

A batch norm is applied there as scale x + shift, which rounds otherwise than torch's: within
1e-5, as all floats; so it is never used before another quantizer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ste_lightning.deploy.fusion.pool_windows import POOLS, windows
from ste_lightning.kernels.epilogue.float_head import Tail

__all__ = ["tail_length", "tail_of"]

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_MEANS = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)


def _order(module: nn.Module, dims: int) -> str:
    """Return what a module does in a tail, ``""`` for something else."""
    kind: Any = module
    if 0 < dims < 3 and type(module) is POOLS[dims - 1]:
        return "pool"
    # Of rows, torch's batch norm takes one axis; of images, that with the same axes.
    if type(module) is _NORMS[max(dims, 1) - 1] and kind.running_mean is not None:
        return "norm"
    if type(module) in (nn.ReLU, nn.ReLU6, nn.Hardtanh):
        return "bound"
    if dims > 0 and type(module) is _MEANS[dims - 1]:
        sizes = kind.output_size
        return "mean" if sizes == 1 or tuple(np.atleast_1d(sizes)) == (1,) * dims else ""
    if type(module) is nn.Linear:
        return "linear" if kind.weight.dtype == torch.float32 else ""
    return "flat" if dims > 0 and type(module) is nn.Flatten else ""


_TAILS = (
    ("pool", "norm", "bound", "mean", "flat", "linear"),
    ("norm", "bound", "pool", "mean", "flat", "linear"),
)


def tail_length(modules: Sequence[nn.Module], dims: int) -> int:
    """Return how many of the modules after a packed layer make a tail.

    Args:
        modules: in order.
        dims: the layer's spatial dimensions.
    """
    kinds = [_order(module, dims) for module in modules]
    best = 0
    for order in _TAILS:
        length = place = 0
        while length < len(kinds) and kinds[length] in order[place:]:
            place = order.index(kinds[length], place) + 1
            length += 1
        if dims > 0 and "flat" not in kinds[:length] and kinds[length - 1 : length] == ["linear"]:
            length -= 1  # it multiplies the last axis
        best = max(best, length)
    return best


def tail_of(modules: Sequence[nn.Module], size: tuple[int, ...], channels: int) -> Tail:
    """Return the pass that computes what :func:`tail_length` accepted.

    Args:
        modules: the tail's.
        size: the spatial size before it; () for rows.
        channels: number of channels.
    """
    found: dict[str, Any] = {_order(module, len(size)): module for module in modules}
    kinds = list(found)
    pooled, window = windows(found.get("pool"), size, channels)
    scale, shift = torch.ones(channels), torch.zeros(channels)
    if "norm" in found:
        norm = found["norm"]
        scale = (norm.running_var.double() + norm.eps).rsqrt()
        if norm.weight is not None:
            scale = scale * norm.weight.detach()
        shift = -norm.running_mean * scale
        if norm.bias is not None:
            shift = shift + norm.bias.detach()
    low, high = -math.inf, math.inf
    bound = found.get("bound")
    if isinstance(bound, nn.ReLU):
        low = 0.0
    elif bound is not None:
        low, high = float(bound.min_val), float(bound.max_val)
    late = "pool" in kinds and kinds[0] in ("norm", "bound")
    numbers = (scale.float().numpy(), shift.float().numpy(), low, high)
    shape = (channels, *((1,) * len(size) if "mean" in found else pooled))
    shape = (math.prod(shape),) if "flat" in found else shape
    image, linear = math.prod(size) * channels, found.get("linear")
    weights = () if linear is None else (linear.weight.detach(), _detached(linear.bias))
    return Tail(window, *numbers, late, "mean" in found, image, shape, *weights)


def _detached(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach()
