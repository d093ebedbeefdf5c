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

import torch
from torch import Tensor

from ste_lightning.functional.hard_maps import hard_sign, hard_step
from ste_lightning.functional.rules.windows import Clipped
from ste_lightning.functional.surrogate import Surrogate, Window
from ste_lightning.kernels.threads import share

__all__ = [
    *("clip_gradient", "compiled_code", "mask_gradient", "pack", "signs", "signs_inside"),
    *("unpack", "weight_signs"),
]

_MAGIC = 0x0102040810204080  # gathers the lowest bits of eight bytes into the highest byte
_LEAST = 1 << 14  # words worth a thread of their own: half a million elements
_ALONE = 2 * _LEAST  # words that one thread takes, without the calls that would ask for others


@functools.cache
def _compiler() -> ModuleType | None:
    """Return the compiled functions, or ``None`` where numba is missing."""
    if importlib.util.find_spec("numba") is None:
        return None
    from ste_lightning.kernels import residuals

    return residuals


def compiled_code(x: Tensor) -> ModuleType | None:
    """Return the compiled functions, or ``None`` where they cannot take ``x``."""
    return _compiler() if x.is_cpu and x.dtype is torch.float32 and x.is_contiguous() else None


def pack(x: Tensor, strict: bool, window: Window | None) -> tuple[Tensor, Tensor | None]:
    """Return the signs of ``x`` as bits and, for a window, the mask of its elements inside.

    Args:
        x: real tensor.
        strict: bits of x > 0 (the step) instead of x >= 0 or NaN (the sign).
        window: the backward rule's window; ``None`` makes no mask.

    Returns:
        uint8 tensors of one bit per element.
    """
    native = compiled_code(x)
    if native is not None:
        count, words = x.numel(), _words(x)
        bits = torch.empty(4 * words, dtype=torch.uint8)
        mask = None if window is None else torch.empty(4 * words, dtype=torch.uint8)
        low, high, _ = window or (0.0, 0.0, 0.0)
        source, to, masked = x.data_ptr(), bits.data_ptr(), 0 if mask is None else mask.data_ptr()
        if words < _ALONE:
            has = mask is not None
            native.pack(source, count, strict, has, low, high, to, masked, 0, words)
            return bits, mask

        def part(first: int, last: int) -> None:
            native.pack(source, count, strict, mask is not None, low, high, to, masked, first, last)

        share(part, words, _LEAST)
        return bits, mask
    if _is_wide(x) and math.isfinite(x.sum()):  # hardtanh's derivative differs at others
        bits = _pack_floats(hard_step(x), 0.0) if strict else _pack_floats(hard_sign(x), -1.0)
        if window is None:
            return bits, None
        after = torch.nextafter(x.new_tensor(window.high), x.new_tensor(math.inf))
        one = x.new_ones(()).expand_as(x)
        inside = torch.ops.aten.hardtanh_backward(one, x, window.low, float(after))
        return bits, _pack_floats(inside, 0.0)
    positive = x > 0 if strict else ~(x < 0)
    if window is None:
        return _pack_torch(positive), None
    return _pack_torch(positive), _pack_torch((x > window.low) & (x <= window.high))


def unpack(bits: Tensor, shape: torch.Size, low: float, dtype: torch.dtype) -> Tensor:
    """Return +1 where a bit is set and ``low`` elsewhere, in that shape."""
    native = _compiler() if bits.device.type == "cpu" and dtype == torch.float32 else None
    if native is not None:
        out = torch.empty(shape, dtype=dtype)
        source, to, count = bits.data_ptr(), out.data_ptr(), out.numel()
        words = (count + 31) // 32
        if words < _ALONE:
            native.unpack(source, low, 1.0, to, count, 0, words)
            return out
        share(lambda a, b: native.unpack(source, low, 1.0, to, count, a, b), words, _LEAST)
        return out
    table = _table(low, dtype, bits.device)
    return table.index_select(0, bits.int()).view(-1)[: shape.numel()].view(shape)


def mask_gradient(grad: Tensor, mask: Tensor, outside: float) -> Tensor:
    """Return ``grad`` where the mask's bit is set and ``outside * grad`` elsewhere.

    ``grad`` must be the caller's own: it may be overwritten.
    """
    native = compiled_code(grad)
    if native is not None:
        to, of, count = grad.data_ptr(), mask.data_ptr(), grad.numel()
        words = (count + 31) // 32
        if words < _ALONE:
            native.mask_(to, of, outside, count, 0, words)
            return grad
        share(lambda a, b: native.mask_(to, of, outside, count, a, b), words, _LEAST)
        return grad
    inside = unpack(mask, grad.shape, 0.0, grad.dtype)
    return grad.mul_(inside if outside == 0 else outside + (1 - outside) * inside)


def signs(weight: Tensor, out: Tensor | None = None) -> Tensor:
    """Return +1 where ``weight`` >= 0 (or NaN) and -1 elsewhere, in ``out`` if given.

    Args:
        weight: real tensor.
        out: contiguous, of its shape and dtype; may be ``weight`` itself.
    """
    native = compiled_code(weight)
    if native is None:
        return hard_sign(weight, out)
    out = torch.empty_like(weight) if out is None else out
    source, to, count = weight.data_ptr(), out.data_ptr(), weight.numel()
    words = (count + 31) // 32
    if words < _ALONE:
        native.signs(source, to, count, 0, words)
        return out
    share(lambda a, b: native.signs(source, to, count, a, b), words, _LEAST)
    return out


def signs_inside(x: Tensor, out: Tensor, window: Window) -> bool:
    """Write :func:`signs` to ``out``; return whether all of ``x`` is known to be inside the window.

    NaN is outside of every window.

    Args:
        x: real tensor.
        out: contiguous if ``x`` is, of its shape and dtype.
        window: numbers low < x <= high.
    """
    native = compiled_code(x)
    if native is None:
        x = x.detach()
        signs(x, out)
        if window.low == -math.inf and window.high == math.inf:
            return not math.isnan(x.sum())
        if x.numel() < _LEAST:  # more calls than they save
            return False
        least, most = torch.aminmax(x)  # both are NaN if any element is
        return bool((least > window.low) & (most <= window.high))
    low, high, _ = window
    source, to, count = x.data_ptr(), out.data_ptr(), x.numel()
    words = (count + 31) // 32
    if words < _ALONE:
        return bool(native.signs_inside(source, to, low, high, count, 0, words))
    inside: list[int] = []

    def part(first: int, last: int) -> None:
        inside.append(native.signs_inside(source, to, low, high, count, first, last))

    share(part, words, _LEAST)
    return all(inside)


def weight_signs(
    weight: Tensor, scale: Tensor | None, rule: Surrogate, out: Tensor | None = None
) -> tuple[Tensor, bool]:
    """Return scale sign(weight), and whether the rule is known to be 1 for all weights.

    Args:
        weight: latent weights.
        scale: broadcastable, or ``None`` for 1.
        rule: their backward rule.
        out: contiguous, of the weights' shape and dtype; default a new tensor.
    """
    window, values = rule.window(weight.dtype), torch.empty_like(weight) if out is None else out
    if window is None:
        inside = rule.remembers == "nothing"
        signs(weight, values)
    else:
        inside = signs_inside(weight, values, window)
    return values if scale is None else values.mul_(scale), inside


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


def _words(x: Tensor) -> int:
    return (x.numel() + 31) // 32


def _pack_torch(ones: Tensor) -> Tensor:
    flat = ones.reshape(-1)
    room = 32 * _words(flat)
    if room != flat.numel():
        flat = torch.nn.functional.pad(flat, (0, room - flat.numel()))
    octets = flat.contiguous().view(torch.uint8).view(torch.int64)
    return (((octets * _MAGIC) >> 56) & 255).to(torch.uint8)


def _pack_floats(values: Tensor, low: float) -> Tensor:
    """Return bits of values ``low`` and 1: products with powers of two, faster than comparisons."""
    flat = values.reshape(-1)
    room = 32 * _words(flat)
    if room != flat.numel():
        flat = torch.nn.functional.pad(flat, (0, room - flat.numel()), value=low)
    octets = flat.view(-1, 8) @ _powers(values.dtype, values.device)
    return octets.sub_(255 * low).div_(1 - low).to(torch.uint8)


@functools.lru_cache(maxsize=32)
def _powers(dtype: torch.dtype, device: torch.device) -> Tensor:
    return (2 ** torch.arange(8)).to(device=device, dtype=dtype)


@functools.lru_cache(maxsize=32)
def _table(low: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the eight values of every byte, shape (256, 8)."""
    ones = (torch.arange(256)[:, None] >> torch.arange(8)) & 1
    values = low + (1 - low) * ones.double()
    return values.to(device=device, dtype=dtype)
