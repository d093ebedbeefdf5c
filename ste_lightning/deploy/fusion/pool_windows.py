"""The windows of a max pooling as places in an image stored pixel by pixel."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

__all__ = ["POOLS", "windows"]

POOLS = (nn.MaxPool1d, nn.MaxPool2d)


def windows(
    pool: nn.Module | None, size: tuple[int, ...], pixel: int
) -> tuple[tuple[int, ...], NDArray[np.int64]]:
    """Return the pooled size, and where the pixels of each window begin, -1 outside the image.

    Args:
        pool: a max pooling, or ``None`` for windows of one pixel.
        size: the image's spatial size.
        pixel: places from one pixel to the next.
    """
    if pool is None:
        return size, np.arange(int(np.prod(size)), dtype=np.int64)[:, None] * pixel
    given: Any = pool
    dims = len(size)
    settings = (given.kernel_size, given.stride, given.padding, given.dilation)
    kernel, stride, padding, dilation = (
        (value,) * dims if isinstance(value, int) else tuple(value) for value in settings
    )
    pooled = tuple(pool(torch.empty(1, 1, *size)).shape[2:])
    inside = np.ones([1] * (2 * dims), bool)
    place = np.zeros([1] * (2 * dims), np.int64)
    for axis, (n, k, st, p, d, o) in enumerate(
        zip(size, kernel, stride, padding, dilation, pooled, strict=True)
    ):
        at = np.arange(o)[:, None] * st - p + np.arange(k)[None, :] * d
        shape = [1] * (2 * dims)
        shape[axis], shape[dims + axis] = at.shape
        at = at.reshape(shape)
        inside = inside & (at >= 0) & (at < n)
        place = place * n + at
    window = np.where(inside, place * pixel, -1).reshape(int(np.prod(pooled)), -1)
    return pooled, np.ascontiguousarray(window)
