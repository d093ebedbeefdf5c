"""Products of binary weights that keep one bit per activation for the backward pass.

y = q_x(x) * q_w(W), with q_w(W) = alpha sign(W) and q_x sign, step or nothing, as one autograd
node: it keeps the latent weights (a parameter, kept anyway), the input's bits and, where the
backward rule is a window, its mask's bits; for rules that must remember the input (approx, tanh),
the input alone. The quantized tensors are made again in the backward pass. Forward products of
bits with bits are counted (xor and popcount) where that is faster.

Gradients equal those of the plain composition ``product(q_x(x), q_w(W))`` bit for bit, and to
rounding where tile registers multiply (:mod:`.tile_products`, :mod:`.tile_convolutions`) and in the
inputs of convolutions that are padded with -1; outputs do for integers, that is without scale and
bias, and to rounding with them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ste_lightning.functional.estimator.eager import no_view, untraced
from ste_lightning.functional.products.channels_first import is_channels_last
from ste_lightning.functional.products.popcount_forward import counted_product, counts
from ste_lightning.functional.products.small_linear import is_small, small_linear
from ste_lightning.functional.products.specification import OneBitProduct
from ste_lightning.functional.products.tile_products import ONE, per_output
from ste_lightning.functional.saved import bit_masks as packed
from ste_lightning.functional.saved.workspace import Loan, borrow, borrow_like
from ste_lightning.kernels.dispatch import host

__all__ = ["one_bit_product", "path_of"]

_LENT = 1 << 14  # weights from which their signs are worth a loan, and it may wait


class _OneBit(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        scale: Tensor | None,
        bias: Tensor | None,
        spec: OneBitProduct,
        dtype: torch.dtype,
    ) -> Tensor:
        ctx.spec, ctx.dtype, ctx.narrow = spec, dtype, x.dtype
        ctx.channels_last = spec.geometry is not None and is_channels_last(x)
        bits = mask = values = kept = None
        if spec.input_rule is None:
            kept = x.to(dtype)
        elif ctx.needs_input_grad[0] and not spec.remembers_bits(spec.input_rule, x.dtype):
            kept = x
        elif ctx.needs_input_grad[0] or ctx.needs_input_grad[1]:
            window = spec.input_rule.window(x.dtype)
            stored = _stored(x, ctx.channels_last)
            if not packed.packs(stored):  # then they cost little while at it
                held = borrow_like(stored)
                values = held.tensor
            bits, mask = packed.pack(stored, spec.input_map == "step", window, values)
            x, ctx.shape = _as_given(stored, ctx.channels_last), stored.shape
        ctx.save_for_backward(weight, scale, bits, mask, kept)
        ctx.inside = False
        if dtype != weight.dtype:  # what autocast would multiply
            bias = None if bias is None else bias.to(dtype).to(weight.dtype)
            scale = None if scale is None else scale.to(dtype).to(weight.dtype)
        if not _narrow_is_faster(dtype, spec):
            y = counted_product(x.to(weight.dtype), weight, scale, bias, spec)
            if y is not None:
                return no_view(y.to(dtype))
        if bits is None:
            values = spec.quantized(x)
        else:
            if values is None:
                held = borrow(ctx.shape, x.dtype, x.device)
                values = spec.unpacked(bits, ctx.shape, x.dtype, held.tensor)
            values = _as_given(values, ctx.channels_last)
        room = None
        if weight.is_contiguous() and weight.numel() > _LENT:
            loan = borrow_like(weight)
            room = loan.tensor
            if ctx.needs_input_grad[0] and loan.is_kept:
                ctx.loan = loan
        quantized, ctx.inside = packed.weight_signs(weight, scale, spec.weight_rule, room)
        bias = None if bias is None else bias.to(dtype)
        return no_view(spec.multiply(values.to(dtype), quantized.to(dtype), bias))

    @staticmethod
    @untraced  # compiled autograd looks into backward passes
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # the decorator's own work is worth a small product
            return _backward_once(ctx, grad)
        return _backward(ctx, grad)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    spec: OneBitProduct = ctx.spec
    weight, scale, bits, mask, kept = ctx.saved_tensors
    if bits is None:
        x = kept if spec.input_rule is None else spec.quantized(kept).to(ctx.dtype)
    else:
        lent = ctx.shape.numel() > 4 * _LENT
        held = borrow(ctx.shape, ctx.dtype, bits.device) if lent else None
        x = spec.unpacked(bits, ctx.shape, ctx.dtype, None if held is None else held.tensor)
        x = _as_given(x, ctx.channels_last)
    wanted = (ctx.needs_input_grad[0], ctx.needs_input_grad[1], ctx.needs_input_grad[3])
    inside = ctx.inside
    # taken: of several backward passes, or threads, one has the loan, and gives it back when done
    loan: Loan | None = ctx.__dict__.pop("loan", None)
    if loan is not None:
        values = loan.tensor
    elif spec.geometry is None and not wanted[0]:
        values = torch.empty_like(weight)
    else:
        values, inside = packed.weight_signs(weight, scale, spec.weight_rule)
    own = loan is None or ctx.dtype != weight.dtype
    values = values.to(ctx.dtype)
    steps = None if spec.input_map is None else ONE, per_output(scale, weight)
    in_x, in_weight, in_bias = spec.differentiate(grad, x, values, wanted, own, steps)
    in_x = None if in_x is None else in_x.to(ctx.narrow)
    in_weight = None if in_weight is None else in_weight.to(weight.dtype)
    if in_x is not None and mask is not None:
        assert spec.input_rule is not None
        window = spec.input_rule.window(ctx.narrow)
        assert window is not None
        in_x = packed.mask_gradient(_stored(in_x, ctx.channels_last), mask, window.outside)
        in_x = _as_given(in_x, ctx.channels_last)
    elif in_x is not None and bits is None and spec.input_rule is not None:
        in_x = spec.input_rule.coarse_gradient(in_x, kept)
    if in_weight is not None:
        if scale is not None:
            in_weight.mul_(scale)
        if not inside:
            in_weight = packed.clip_gradient(in_weight, weight, spec.weight_rule)
    return in_x, in_weight, None, in_bias, None, None


def _narrow_is_faster(dtype: torch.dtype, spec: OneBitProduct) -> bool:
    """Return whether convolutions in ``dtype`` are faster than counting bits: by tile registers."""
    return spec.geometry is not None and dtype is torch.bfloat16 and host().tiles


def _stored(x: Tensor, last: bool) -> Tensor:
    """Return images in the order of their memory: bits and masks are kept in it."""
    return (x.movedim(1, -1) if last else x).contiguous()


def _as_given(x: Tensor, last: bool) -> Tensor:
    return x.movedim(-1, 1) if last else x


_backward_once = once_differentiable(_backward)


def path_of(x: Tensor, weight: Tensor, scale: Tensor | None, spec: OneBitProduct) -> str:
    """Return what :func:`one_bit_product` does with these operands, for the log."""
    if is_small(x, weight, scale, spec):
        return "small: keeps its operands"
    if spec.input_map is None:
        return "keeps its float input"
    assert spec.input_rule is not None
    remembers = "one bit per" if spec.remembers_bits(spec.input_rule, x.dtype) else "its float"
    product = "counted" if counts(x, weight, spec) else "float"
    return f"keeps {remembers} input, {product} product"


def one_bit_product(
    x: Tensor,
    weight: Tensor,
    scale: Tensor | None,
    bias: Tensor | None,
    spec: OneBitProduct,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Return ``q_x(x) * (scale sign(weight)) + bias`` and keep one bit per input element.

    Where the input's rule must remember its input, that is kept and no bits.

    Args:
        x: input, float; (*, in) for a linear layer, (N, C, *size) for a convolution.
        weight: latent weights.
        scale: positive, broadcastable against ``weight``, a constant of the backward pass;
            ``None`` for 1.
        bias: per output, or ``None``.
        spec: maps, backward rules and geometry.
        dtype: what autocast multiplies in; ``None`` where none is at work.

    Returns:
        The product in ``dtype``, else in the dtype of ``x``. It can be differentiated once.
    """
    if dtype is None and is_small(x, weight, scale, spec):
        return small_linear(x, weight, bias, spec)
    y: Tensor = _OneBit.apply(  # type: ignore[no-untyped-call]
        x, weight, scale, bias, spec, dtype or x.dtype
    )
    return y
