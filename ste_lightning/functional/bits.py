"""One bit per element: how binary activations and masks wait for the backward pass.

Bit i of byte j belongs to element 8 j + i of the flat tensor; the bytes fill whole 32-bit words.
Compiled code packs contiguous float32 on the CPU in one pass; torch operators do the rest, with
equal results.
"""

from __future__ import annotations

import functools
import importlib.util
import math

import numpy as np
import torch
from torch import Tensor

from ste_lightning.functional.surrogate import Window
from ste_lightning.kernels.threads import share

__all__ = ["mask_gradient", "pack", "unpack"]

_MAGIC = 0x0102040810204080  # gathers the lowest bits of eight bytes into the highest byte
_LEAST = 1 << 14  # words worth a thread of their own: half a million elements


@functools.cache
def _compiler() -> bool:
    return importlib.util.find_spec("numba") is not None


def _native(x: Tensor) -> bool:
    return x.dtype == torch.float32 and x.device.type == "cpu" and x.is_contiguous() and _compiler()


def _size(elements: int) -> int:
    return 4 * math.ceil(elements / 32)


def pack(x: Tensor, strict: bool, window: Window | None) -> tuple[Tensor, Tensor | None]:
    """Return the signs of ``x`` as bits and, for a window, the mask of its elements inside.

    Args:
        x: real tensor.
        strict: bits of x > 0 (the step) instead of x >= 0 or NaN (the sign).
        window: the backward rule's window; ``None`` makes no mask.

    Returns:
        uint8 tensors of one bit per element.
    """
    if _native(x):
        from ste_lightning.kernels import residuals

        size = _size(x.numel())
        bits = torch.empty(size, dtype=torch.uint8)
        mask = torch.empty(size if window is not None else 0, dtype=torch.uint8)
        flat, words, masked = x.detach().view(-1).numpy(), _words(bits), _words(mask)
        low, high = (window.low, window.high) if window is not None else (0.0, 0.0)
        bounds = (np.float32(low), np.float32(high))

        def part(first: int, last: int) -> None:
            residuals.pack(flat, strict, window is not None, *bounds, words, masked, first, last)

        share(part, size // 4, _LEAST)
        return bits, mask if window is not None else None
    positive = x > 0 if strict else ~(x < 0)
    if window is None:
        return _pack_torch(positive), None
    return _pack_torch(positive), _pack_torch((x > window.low) & (x <= window.high))


def unpack(bits: Tensor, like: Tensor | torch.Size, low: float, dtype: torch.dtype) -> Tensor:
    """Return +1 where a bit is set and ``low`` elsewhere, in the shape ``like``."""
    shape = like if isinstance(like, torch.Size) else like.shape
    count = shape.numel()
    if bits.device.type == "cpu" and dtype == torch.float32 and _compiler():
        from ste_lightning.kernels import residuals

        out = torch.empty(shape)
        flat, words = out.view(-1).numpy(), _words(bits)
        values = (np.float32(low), np.float32(1))
        share(lambda a, b: residuals.unpack(words, *values, flat, a, b), len(words), _LEAST)
        return out
    table = _table(low, dtype, bits.device)
    return table.index_select(0, bits.int()).view(-1)[:count].view(shape)


def mask_gradient(grad: Tensor, mask: Tensor, outside: float) -> Tensor:
    """Return ``grad`` where the mask's bit is set and ``outside * grad`` elsewhere.

    ``grad`` must be the caller's own: it may be overwritten.
    """
    if _native(grad):
        from ste_lightning.kernels import residuals

        flat, words, factor = grad.view(-1).numpy(), _words(mask), np.float32(outside)
        share(lambda a, b: residuals.mask_(flat, words, factor, a, b), len(words), _LEAST)
        return grad
    inside = unpack(mask, grad, 0.0, grad.dtype)
    return grad * (inside if outside == 0 else outside + (1 - outside) * inside)


def _words(data: Tensor) -> np.ndarray[tuple[int], np.dtype[np.uint32]]:
    return data.numpy().view(np.uint32)


def _pack_torch(ones: Tensor) -> Tensor:
    flat = ones.reshape(-1)
    room = 8 * _size(flat.numel())
    if room != flat.numel():
        flat = torch.nn.functional.pad(flat, (0, room - flat.numel()))
    octets = flat.contiguous().view(torch.uint8).view(torch.int64)
    return (((octets * _MAGIC) >> 56) & 255).to(torch.uint8)


@functools.lru_cache(maxsize=32)
def _table(low: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the eight values of every byte, shape (256, 8)."""
    ones = (torch.arange(256)[:, None] >> torch.arange(8)) & 1
    values = low + (1 - low) * ones.double()
    return values.to(device=device, dtype=dtype)
