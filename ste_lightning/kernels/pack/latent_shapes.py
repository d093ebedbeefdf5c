"""What laying out latent weights needs to know of their shape alone."""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor

from ste_lightning.kernels.layout import integer_codes
from ste_lightning.kernels.layout.integer_codes import Codes
from ste_lightning.kernels.layout.packed_weights import Prepared
from ste_lightning.kernels.layout.weight_tiles import LAYOUTS

__all__ = ["channels_last", "empty_prepared"]


@functools.lru_cache(maxsize=128)
def empty_prepared(
    format: str,
    inputs: Codes,
    weights: Codes,
    groups: int,
    outputs: int,
    taps: int,
    channels: int,
) -> Prepared:
    """Return what depends on the shape alone: panels are not set, sums of weights count as 0."""
    layout, count = LAYOUTS[format], groups * outputs
    units = -(-outputs // layout.width) * layout.width * taps * layout.units(channels)
    no_sums = np.zeros(count, np.int64)
    return Prepared(
        format,
        inputs,
        weights,
        groups,
        outputs,
        taps,
        channels,
        np.empty(groups * units * layout.unit, np.uint8),
        integer_codes.coefficients(inputs, weights, taps * channels, no_sums, layout.of_products),
        np.zeros((taps, count), np.float32),
        np.ones(count, np.float32),
        np.zeros(count, np.float32),
        torch.empty(0),
    )


def channels_last(weight: Tensor) -> Tensor:
    """Return weights (outputs, channels, *kernel) as contiguous (outputs, taps, channels)."""
    rows = weight.detach()
    return (rows.flatten(2).movedim(1, 2) if weight.dim() > 2 else rows).contiguous()
