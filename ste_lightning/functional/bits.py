"""One bit per element: how binary activations and masks wait for the backward pass.

Bit i of byte j belongs to element 8 j + i of the flat tensor; the bytes fill whole 32-bit words.
Compiled code works on contiguous float32 on the CPU, one pass per function; torch operators do
the rest, with equal results.
"""

from __future__ import annotations

import functools
import importlib.util
import math
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from ste_lightning.functional.maps import hard_sign
from ste_lightning.functional.rules.windows import Clipped
from ste_lightning.functional.surrogate import Surrogate, Window
from ste_lightning.kernels.threads import share

__all__ = ["clip_gradient", "mask_gradient", "pack", "signs", "unpack"]

_MAGIC = 0x0102040810204080  # gathers the lowest bits of eight bytes into the highest byte
_LEAST = 1 << 14  # words worth a thread of their own: half a million elements
_ONE_PASS = 1 << 18  # elements that outgrow the cache: torch's three passes are slower there


@functools.cache
def _compiler() -> ModuleType | None:
    """Return the compiled functions, or ``None`` where numba is missing."""
    if importlib.util.find_spec("numba") is None:
        return None
    from ste_lightning.kernels import residuals

    return residuals


def _native(x: Tensor) -> ModuleType | None:
    if x.dtype == torch.float32 and x.device.type == "cpu" and x.is_contiguous():
        return _compiler()
    return None


@functools.lru_cache(maxsize=64)
def _numbers(*values: float) -> tuple[np.float32, ...]:
    return tuple(np.float32(value) for value in values)


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
    native = _native(x)
    if native is not None:
        size = _size(x.numel())
        bits = torch.empty(size, dtype=torch.uint8)
        mask = None if window is None else torch.empty(size, dtype=torch.uint8)
        flat, words = _flat(x), _words(bits)
        masked = words if mask is None else _words(mask)
        low, high = _numbers(0.0, 0.0) if window is None else _numbers(window.low, window.high)

        def part(first: int, last: int) -> None:
            native.pack(flat, strict, mask is not None, low, high, words, masked, first, last)

        share(part, size // 4, _LEAST)
        return bits, mask
    positive = x > 0 if strict else ~(x < 0)
    if window is None:
        return _pack_torch(positive), None
    return _pack_torch(positive), _pack_torch((x > window.low) & (x <= window.high))


def unpack(bits: Tensor, shape: torch.Size, low: float, dtype: torch.dtype) -> Tensor:
    """Return +1 where a bit is set and ``low`` elsewhere, in that shape."""
    native = _compiler() if bits.device.type == "cpu" and dtype == torch.float32 else None
    if native is not None:
        out = torch.empty(shape, dtype=dtype)
        flat, words, (zero, one) = _flat(out), _words(bits), _numbers(low, 1.0)
        share(lambda a, b: native.unpack(words, zero, one, flat, a, b), len(words), _LEAST)
        return out
    table = _table(low, dtype, bits.device)
    return table.index_select(0, bits.int()).view(-1)[: shape.numel()].view(shape)


def mask_gradient(grad: Tensor, mask: Tensor, outside: float) -> Tensor:
    """Return ``grad`` where the mask's bit is set and ``outside * grad`` elsewhere.

    ``grad`` must be the caller's own: it may be overwritten.
    """
    native = _native(grad)
    if native is not None:
        flat, words, (factor,) = _flat(grad), _words(mask), _numbers(outside)
        share(lambda a, b: native.mask_(flat, words, factor, a, b), len(words), _LEAST)
        return grad
    inside = unpack(mask, grad.shape, 0.0, grad.dtype)
    return grad * (inside if outside == 0 else outside + (1 - outside) * inside)


def signs(weight: Tensor) -> Tensor:
    """Return +1 where ``weight`` >= 0 (or NaN) and -1 elsewhere, as a new tensor."""
    native = _native(weight) if weight.numel() >= _ONE_PASS else None
    if native is None:
        return hard_sign(weight)
    out = torch.empty(weight.shape, dtype=weight.dtype)
    flat, written, values = _flat(weight), _flat(out), _numbers(-1.0, 1.0)
    words = math.ceil(len(flat) / 32)
    share(lambda a, b: native.signs(flat, *values, written, a, b), words, _LEAST)
    return out


def clip_gradient(grad: Tensor, x: Tensor, rule: Surrogate) -> Tensor:
    """Return ``grad f'(x)``, in place for the clipped rule.

    ``grad`` must be the caller's own: it may be overwritten.
    """
    if type(rule) is not Clipped or isinstance(rule.width, Tensor) or not _is_wide(grad, x):
        return rule.coarse_gradient(grad, x)
    # hardtanh_backward excludes its bounds and the rule includes them
    window = rule.window(x.dtype)
    assert window is not None
    bound = -window.low
    torch.ops.aten.hardtanh_backward.grad_input(grad, x, -bound, bound, grad_input=grad)
    return grad


def _is_wide(*tensors: Tensor) -> bool:
    return all(t.dtype in (torch.float32, torch.float64) for t in tensors)


def _flat(x: Tensor) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return x.detach().numpy().reshape(-1)


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
