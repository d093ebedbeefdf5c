"""Packed convolutions whose results have their channels first, as torch's own keep them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ste_lightning.kernels import Geometry, Prepared, convolve
from ste_lightning.kernels.jit.threads import share

__all__ = ["convolve_planar", "is_channels_last"]

_NESTED = 1 << 20  # elements of a convolution that are computed before they are moved


def is_channels_last(x: Tensor) -> bool:
    """Return whether images have their channels last in memory, and not first as well."""
    last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
    return last and not x.is_contiguous()


def convolve_planar(
    x: Tensor, weights: Prepared, geometry: Geometry, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Return the convolution with its channels first, in memory too.

    It is computed with the channels last, a few images at a time, which stay in the cache.

    Args:
        x, weights, geometry: as of :func:`~ste_lightning.kernels.convolve`.
        dtype: of the result.
    """
    from ste_lightning.kernels.pack.transpose import to_planar

    size = geometry.output(x.shape[2:])
    outputs, pixels = weights.groups * weights.outputs, math.prod(size)
    y = torch.empty(len(x), outputs, *size, dtype=dtype)
    image = outputs * pixels
    several = max(_NESTED // max(image, 1), 1)
    room = y if dtype == torch.float32 else torch.empty(min(several, len(x)), outputs, *size)
    for first in range(0, len(x), several):
        part = convolve(x[first : first + several], weights, geometry)
        planar = y[first:] if room is y else room[: len(part)]
        source, to = part.data_ptr(), planar.data_ptr()

        def move(start: int, end: int, source: int = source, to: int = to) -> None:
            at = 4 * start * image
            to_planar(source + at, to + at, end - start, pixels, outputs)

        share(move, len(part), 1 + (1 << 18) // max(image, 1))
        if room is not y:
            y[first : first + several].copy_(planar)
    return y
