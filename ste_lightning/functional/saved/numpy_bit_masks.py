"""Bits of activations by numpy, which compares, packs and unpacks bytes in vector instructions.

Torch's comparisons do not: this is the way on the CPU where nothing compiles code. Functions take
flat arrays and do elements 32 first .. 32 last of them, as the compiled ones.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ste_lightning.functional.estimator.surrogate import Window

__all__ = ["has_arrays", "mask_", "pack", "unpack"]


def has_arrays(device: torch.device, dtype: torch.dtype) -> bool:
    """Return whether numpy takes tensors of that kind, without rounding their numbers."""
    return device.type == "cpu" and dtype in (torch.float32, torch.float64, torch.int8)


def pack(
    x: Tensor,
    strict: bool,
    window: Window | None,
    bits: NDArray[np.uint8],
    mask: NDArray[np.uint8] | None,
    values: NDArray[Any] | None,
    first: int,
    last: int,
) -> None:
    """Write bits of the signs, bits of the window, and the signs themselves.

    Args:
        x: flat.
        strict, window: as of :func:`ste_lightning.functional.saved.bit_masks.pack`.
        bits, mask: zeros, a bit per element of whole words; ``mask`` with a window only.
        values: of the kind of ``x``, or ``None``.
        first, last: words to do.
    """
    numbers = x.numpy()[32 * first : 32 * last]
    end = 4 * first + (len(numbers) + 7) // 8
    ones = np.greater(numbers, 0) if strict else np.less(numbers, 0)  # false for NaN
    if not strict:
        np.logical_not(ones, out=ones)
    bits[4 * first : end] = np.packbits(ones, bitorder="little")
    if values is not None:
        np.copyto(values[32 * first : 32 * last], _spread(ones, 0 if strict else -1))
    if window is None:
        return
    assert mask is not None
    np.greater(numbers, _number(window.low, x.dtype), out=ones)
    ones &= numbers <= _number(window.high, x.dtype)
    mask[4 * first : end] = np.packbits(ones, bitorder="little")


def unpack(bits: NDArray[np.uint8], low: int, out: NDArray[Any], first: int, last: int) -> None:
    """Write 1 where a bit is set and ``low``, 0 or -1, elsewhere."""
    to = out[32 * first : 32 * last]
    ones = np.unpackbits(bits[4 * first : 4 * last], count=len(to), bitorder="little")
    np.copyto(to, _spread(ones, low))


def mask_(grad: NDArray[Any], mask: NDArray[np.uint8], first: int, last: int) -> None:
    """Multiply by the mask's bits, which need not become numbers of the gradient's kind first."""
    part = grad[32 * first : 32 * last]
    ones = np.unpackbits(mask[4 * first : 4 * last], count=len(part), bitorder="little")
    with np.errstate(invalid="ignore"):  # infinity times zero is NaN, without a warning in torch
        np.multiply(part, ones, out=part)


def _spread(ones: NDArray[Any], low: int) -> NDArray[np.int8]:
    """Return bytes 0 and 1 as ``low`` and 1; they are overwritten."""
    codes = ones.view(np.int8)
    if low:
        codes *= 2
        codes -= 1
    return codes


@functools.lru_cache(maxsize=64)
def _number(value: float, dtype: torch.dtype) -> Any:
    """Return ``value`` as torch rounds it to ``dtype``."""
    return torch.tensor(value, dtype=dtype).numpy()[()]
