"""One bit per element: how binary activations and masks wait for the backward pass.

Bit i of byte j belongs to element 8 j + i of the flat tensor; the bytes fill whole 32-bit words.
Compiled code works on contiguous float32 on the CPU, one pass per function, and on the bits and
masks of bfloat16; torch operators do what remains, with equal results.
"""

from __future__ import annotations

import functools
import math
from types import ModuleType

import torch
from torch import Tensor

from ste_lightning.functional.estimator.surrogate import Surrogate, Window
from ste_lightning.functional.rules.windows import Clipped
from ste_lightning.functional.saved.workspace import borrow
from ste_lightning.kernels import training
from ste_lightning.kernels.jit.threads import share

__all__ = [
    *("clip_gradient", "compiled_code", "mask_gradient", "pack", "packs"),
    *("signs", "signs_inside", "unpack", "weight_signs"),
]

_MAGIC = 0x0102040810204080  # gathers the lowest bits of eight bytes into the highest byte
_ZERO = torch.zeros((), dtype=torch.float32, device="cpu")
_ONE = torch.ones((), dtype=torch.float32, device="cpu")
_LEAST = 1 << 14  # words worth a thread of their own: half a million elements


def compiled_code(x: Tensor) -> ModuleType | None:
    """Return the compiled functions, or ``None`` where they cannot take ``x``."""
    fits = x.is_cpu and x.dtype is torch.float32 and x.is_contiguous()
    return training.sign_masks if fits else None


def packs(x: Tensor) -> bool:
    """Return whether compiled code packs and unpacks numbers like ``x``."""
    if x.dtype is torch.bfloat16:
        return x.is_cpu and x.is_contiguous()
    return compiled_code(x) is not None


def pack(
    x: Tensor, strict: bool, window: Window | None, values: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """Return the signs of ``x`` as bits and, for a window, the mask of its elements inside.

    Args:
        x: real tensor.
        strict: bits of x > 0 (the step) instead of x >= 0 or NaN (the sign).
        window: the backward rule's window; ``None`` makes no mask.
        values: contiguous, of the shape and dtype of ``x``; receives what the bits stand for.

    Returns:
        uint8 tensors of one bit per element.
    """
    if not packs(x):
        bits, mask = _pack_torch(x, strict, window)
        if values is not None:
            unpack(bits, x.shape, 0 if strict else -1, x.dtype, values)
        return bits, mask
    count, words = x.numel(), _words(x)
    bits = torch.empty(4 * words, dtype=torch.uint8)
    mask = None if window is None else torch.empty(4 * words, dtype=torch.uint8)
    low, high = (0.0, 0.0) if window is None else _bounds(window, x.dtype)
    source, to, also = x.data_ptr(), bits.data_ptr(), 0 if mask is None else mask.data_ptr()
    has = mask is not None
    masks = training.sign_masks
    native = masks.pack if x.dtype is torch.float32 else masks.pack_narrow
    share(
        lambda a, b: native(source, count, strict, has, low, high, to, also, a, b),
        words,
        _LEAST,
    )
    if values is not None:
        unpack(bits, x.shape, 0 if strict else -1, x.dtype, values)
    return bits, mask


def unpack(
    bits: Tensor, shape: torch.Size, low: int, dtype: torch.dtype, out: Tensor | None = None
) -> Tensor:
    """Return +1 where a bit is set and ``low``, 0 or -1, elsewhere, in that shape.

    Args:
        bits: of :func:`pack`.
        shape, dtype: of the result.
        low: of bits that are not set.
        out: contiguous, of that shape and dtype; default a new tensor.
    """
    if out is None:
        out = torch.empty(shape, dtype=dtype, device=bits.device)
    if packs(out):
        masks = training.sign_masks
        native = masks.unpack if dtype is torch.float32 else masks.unpack_narrow
        source, to, count = bits.data_ptr(), out.data_ptr(), out.numel()
        share(lambda a, b: native(source, low, 1.0, to, count, a, b), _words(out), _LEAST)
        return out
    table = _table(low, dtype, bits.device)
    return out.copy_(table.index_select(0, bits.int()).view(-1)[: out.numel()].view(shape))


def mask_gradient(grad: Tensor, mask: Tensor, outside: float) -> Tensor:
    """Return ``grad`` where the mask's bit is set and ``outside * grad`` elsewhere.

    ``grad`` must be the caller's own: it may be overwritten.
    """
    wide = grad.dtype is torch.float32
    if packs(grad) and (wide or outside == 0):
        native = training.sign_masks.mask_ if wide else training.sign_masks.mask_narrow
        to, of, count = grad.data_ptr(), mask.data_ptr(), grad.numel()
        share(lambda a, b: native(to, of, outside, count, a, b), _words(grad), _LEAST)
        return grad
    loan = borrow(grad.shape, grad.dtype, grad.device)
    inside = unpack(mask, grad.shape, 0, grad.dtype, loan.tensor)
    return grad.mul_(inside if outside == 0 else outside + (1 - outside) * inside)


def signs(weight: Tensor, out: Tensor | None = None) -> Tensor:
    """Return +1 where ``weight`` >= 0 (or NaN) and -1 elsewhere, in ``out`` if given.

    Args:
        weight: real tensor.
        out: contiguous, of its shape and dtype; may be ``weight`` itself.
    """
    native = compiled_code(weight)
    out = torch.empty_like(weight) if out is None else out
    if native is None:
        torch.lt(weight.detach(), _ZERO, out=out)
        return torch.sub(_ONE, out, alpha=2, out=out)  # two passes; hard_sign takes three
    source, to, count = weight.data_ptr(), out.data_ptr(), weight.numel()
    share(lambda a, b: native.signs(source, to, count, a, b), _words(weight), _LEAST)
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
        known = _all_inside(x, window)
        signs(x, out)  # after the pass that only reads
        return known
    low, high, _ = window
    source, to, count = x.data_ptr(), out.data_ptr(), x.numel()
    inside: list[int] = []

    def part(first: int, last: int) -> None:
        inside.append(native.signs_inside(source, to, low, high, count, first, last))

    share(part, _words(x), _LEAST)
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


def _all_inside(x: Tensor, window: Window) -> bool:
    """Return whether all of ``x`` is inside the window and a pass over it may be spent on that."""
    if window.low == -math.inf and window.high == math.inf:
        return not math.isnan(x.sum())
    if x.numel() < _LEAST:  # more calls than they save
        return False
    least, most = torch.aminmax(x)  # both are NaN if any element is
    return window.low < least.item() and most.item() <= window.high


def _is_wide(*tensors: Tensor) -> bool:
    return all(t.dtype in (torch.float32, torch.float64) for t in tensors)


def _words(x: Tensor) -> int:
    return (x.numel() + 31) // 32


@functools.lru_cache(maxsize=32)
def _bounds(window: Window, dtype: torch.dtype) -> tuple[float, float]:
    """Return the bounds that numbers of ``dtype`` are compared with, as torch rounds them."""
    low, high = torch.tensor([window.low, window.high], dtype=dtype, device="cpu").tolist()
    return low, high


def _pack_torch(x: Tensor, strict: bool, window: Window | None) -> tuple[Tensor, Tensor | None]:
    positive = x > 0 if strict else ~(x < 0)
    if window is None:
        return _octets(positive), None
    return _octets(positive), _octets((x > window.low) & (x <= window.high))


def _octets(ones: Tensor) -> Tensor:
    flat = ones.reshape(-1)
    room = 32 * _words(flat)
    if room != flat.numel():
        flat = torch.nn.functional.pad(flat, (0, room - flat.numel()))
    octets = flat.contiguous().view(torch.uint8).view(torch.int64)
    return (((octets * _MAGIC) >> 56) & 255).to(torch.uint8)


@functools.lru_cache(maxsize=32)
def _table(low: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the eight values of every byte, shape (256, 8)."""
    ones = (torch.arange(256)[:, None] >> torch.arange(8)) & 1
    values = low + (1 - low) * ones.double()
    return values.to(device=device, dtype=dtype)
