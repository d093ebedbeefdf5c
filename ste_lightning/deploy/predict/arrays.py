"""Arrays of samples: in which order their axes are, and what their numbers mean."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ste_lightning.errors import ConfigurationError

__all__ = ["arranged", "pictures_in"]

Array = NDArray[Any]


def _fits(found: Sequence[int], wanted: Sequence[int]) -> bool:
    return len(found) == len(wanted) and all(
        w in (0, f) for f, w in zip(found, wanted, strict=True)
    )


def arranged(array: Array, shape: Sequence[int] | None) -> tuple[Array, str]:
    """Return samples (N, *shape), and a remark where their axes had to be turned.

    An axis is added (one sample without a batch, grey images without channels), channels that
    come last are moved, and rows that are flat are read in the network's own order. Nothing else
    is reshaped.

    Args:
        array: numbers of any shape.
        shape: one sample's, where the network tells it; 0 stands for any size.

    Raises:
        ConfigurationError: for an array of another shape.
    """
    if shape is None:
        return array, ""
    if _fits(array.shape[1:], shape):
        return array, ""
    if _fits(array.shape, shape):
        return array[None], ""
    if len(shape) > 1 and shape[0] == 1:  # without an axis of channels
        if _fits(array.shape[1:], shape[1:]):
            return array[:, None], ""
        if _fits(array.shape, shape[1:]):
            return array[None, None], ""
    if len(shape) > 2:
        last = [*shape[1:], shape[0]]
        remark = f"channels come last in {array.shape}: moved to the front"
        if _fits(array.shape[1:], last):
            return np.moveaxis(array, -1, 1), remark
        if _fits(array.shape, last):
            return np.moveaxis(array, -1, 0)[None], remark
    size = math.prod(shape)
    if array.ndim in (1, 2) and size and array.shape[-1] == size:
        return array.reshape(-1, *shape), ""
    count = math.prod(array.shape[1:])
    raise ConfigurationError(
        f"an array of shape {array.shape} cannot be used: a sample has {count} numbers in shape "
        f"{array.shape[1:]}, the network takes {_said(shape)}."
    )


def _said(shape: Sequence[int]) -> str:
    sizes = ["any" if n == 0 else str(n) for n in shape]
    return f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"


def pictures_in(array: Array, channels: str | None, size: Sequence[int] | None) -> Array | None:
    """Return bytes that are pictures of another size than the network's as (N, height, width, c).

    Args:
        array: numbers of any shape and type.
        channels: the network's, None where it takes no images.
        size: the network's height and width, None for any.

    Returns:
        The pictures, to be resized; None for anything else.
    """
    if array.dtype != np.uint8 or channels is None or size is None:
        return None
    one = array.ndim == 2 or (array.ndim == 3 and array.shape[-1] in (1, 3, 4))
    batch = array[None] if one else array
    if batch.ndim == 3:
        batch = batch[..., None]
    elif batch.ndim == 4 and batch.shape[-1] not in (1, 3, 4) and batch.shape[1] in (1, 3, 4):
        batch = np.moveaxis(batch, 1, -1)
    if batch.ndim != 4 or batch.shape[-1] not in (1, 3, 4) or batch.shape[1:3] == tuple(size):
        return None
    return batch
