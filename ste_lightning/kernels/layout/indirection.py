"""Where the rows of a product lie in packed inputs, for the format ``lookup``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ste_lightning.kernels.layout.geometry import Geometry

__all__ = ["Runs", "runs_of_image"]

_Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Runs:
    """Rows as runs of bytes.

    Attributes:
        starts: first byte of each output position's row in an image with its padding.
        offsets, sizes: the runs, relative to that; together they are the taps, in order.
        lines: first byte of each line of the input (its last axis) in that image; empty where
            there is no padding.
        line: bytes of a line.
        image: bytes of an image with its padding.
    """

    starts: _Integers
    offsets: _Integers
    sizes: _Integers
    lines: _Integers
    line: int
    image: int


def runs_of_image(geometry: Geometry, size: Sequence[int], groups: int, row_bytes: int) -> Runs:
    """Return the runs of a convolution.

    Args:
        geometry: the convolution.
        size: spatial size of the input.
        groups: groups of channels of a pixel.
        row_bytes: bytes of a pixel and group.
    """
    padded = [n + sum(p) for n, p in zip(size, geometry.padding, strict=True)]
    pixel = groups * row_bytes
    strides = [pixel * math.prod(padded[axis + 1 :]) for axis in range(len(padded))]

    def places(counts: Sequence[int], steps: Sequence[int]) -> _Integers:
        found = np.zeros((), np.int64)
        for count, step, stride in zip(counts, steps, strides, strict=False):
            found = found[..., None] + np.arange(count) * step * stride
        return found.ravel()

    starts = places(geometry.output(size), geometry.stride)
    taps = places(geometry.kernel, geometry.dilation)
    # Taps that follow each other in memory are one run.
    first = np.flatnonzero(np.concatenate([[True], np.diff(taps) != row_bytes]))
    sizes = np.diff(np.append(first, len(taps))) * row_bytes
    lines = np.empty(0, np.int64)
    if padded != list(size):
        begin = sum(p[0] * s for p, s in zip(geometry.padding, strides, strict=True))
        lines = places(size[:-1], [1] * len(size)) + begin
    return Runs(starts, taps[first], sizes, lines, size[-1] * pixel, pixel * math.prod(padded))
