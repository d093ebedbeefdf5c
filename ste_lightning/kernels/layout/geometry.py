"""A convolution's geometry, and where it reads."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ste_lightning.errors import require

__all__ = ["Geometry", "Index", "index_of"]


@dataclass(frozen=True)
class Geometry:
    """A convolution's geometry, per spatial dimension; ``padding`` is (before, after)."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]

    def output(self, size: Sequence[int]) -> tuple[int, ...]:
        """Return the spatial size of the output.

        Raises:
            ConfigurationError: if the kernel is larger than the padded input.
        """
        parts = zip(size, self.kernel, self.stride, self.padding, self.dilation, strict=True)
        found = tuple((n + sum(p) - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in parts)
        require(min(found) > 0, "input size", tuple(size), "it is smaller than the kernel")
        return found


@dataclass(frozen=True)
class Index:
    """Where a convolution reads.

    Attributes:
        pixels: the input pixel under each tap at each output position, -1 outside the input.
        border: which of ``borders`` each output position has.
        borders: the different sets of taps outside the input, 1.0 for outside.
        output: the output's spatial size.
        inputs, positions: number of input pixels and of output positions.
    """

    pixels: NDArray[np.int32]
    border: NDArray[np.int64]
    borders: NDArray[np.float32]
    output: tuple[int, ...]
    inputs: int
    positions: int


@functools.lru_cache(maxsize=64)
def index_of(geometry: Geometry, size: tuple[int, ...]) -> Index:
    """Return the index of a convolution over inputs of a size."""
    axes = []
    for n, k, s, p, d, o in zip(
        size,
        geometry.kernel,
        geometry.stride,
        geometry.padding,
        geometry.dilation,
        geometry.output(size),
        strict=True,
    ):
        at = np.arange(o)[:, None] * s - p[0] + np.arange(k)[None, :] * d
        axes.append(np.where((at >= 0) & (at < n), at, -1))
    dims = len(size)
    pixel = np.zeros([1] * (2 * dims), np.int64)
    outside = np.zeros([1] * (2 * dims), bool)
    for axis, at in enumerate(axes):
        shape = [1] * (2 * dims)
        shape[axis], shape[dims + axis] = at.shape
        pixel = pixel * size[axis] + at.reshape(shape)
        outside = outside | (at.reshape(shape) < 0)
    taps = int(np.prod(geometry.kernel))
    pixels = np.where(outside, -1, pixel).astype(np.int32).reshape(-1, taps)
    borders, border = np.unique(pixels < 0, axis=0, return_inverse=True)
    return Index(
        pixels.ravel(),
        border.astype(np.int64).ravel(),
        borders.astype(np.float32),
        geometry.output(size),
        int(np.prod(size)),
        len(pixels),
    )
