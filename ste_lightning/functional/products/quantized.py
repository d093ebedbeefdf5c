"""Products of operands of several bits that keep no quantized operand for the backward pass.

The latent weights are a parameter, kept anyway; what is kept of the input is its operand's
business: codes and masks, or the float input where a gradient needs it. Quantized values are made
again in the backward pass. Gradients equal the plain composition's bit for bit, those of learned
steps and those by tile registers to rounding; outputs do where floats are multiplied, and to
rounding where integers are summed, which are then exact, or by tile registers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ste_lightning.functional.estimator.eager import no_view, untraced
from ste_lightning.functional.products.integer_forward import level_product, levels_pay
from ste_lightning.functional.products.operand import (
    Encoded,
    FloatInput,
    InputOperand,
    WeightOperand,
)
from ste_lightning.functional.products.specification import ConvolutionGeometry, OneBitProduct
from ste_lightning.functional.products.tile_products import (
    Operand,
    tiled_gradients,
    tiled_product,
    tiles_pay,
)
from ste_lightning.functional.rules.windows import Identity
from ste_lightning.functional.saved.workspace import Loan, borrow_like

__all__ = ["multiply", "quantized_product", "sums_integers"]


class _Quantized(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        inputs: InputOperand,
        weights: WeightOperand,
        product: OneBitProduct,
        encoded: Encoded,
        integers: bool,
        dtype: torch.dtype,
        *learned: Tensor,
    ) -> Tensor:
        ctx.product, ctx.operands = product, (inputs, weights)
        ctx.shape, ctx.dtypes = x.shape, (x.dtype, dtype)
        ctx.save_for_backward(weight, *encoded.kept)
        y, loan = multiply(weight, bias, inputs, weights, product, encoded, integers, dtype)
        if loan is not None and loan.is_kept:
            ctx.loan = loan
        return no_view(y)

    @staticmethod
    @untraced  # compiled autograd looks into backward passes
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        weight, *kept = ctx.saved_tensors
        inputs, weights = ctx.operands
        narrow, dtype = ctx.dtypes
        needs, of_inputs = ctx.needs_input_grad, len(inputs.learned)
        learns = needs[9 : 9 + of_inputs], needs[9 + of_inputs :]
        wanted = needs[0] or any(learns[0]), needs[1] or any(learns[1]), needs[2]
        values = inputs.values_of_kept(tuple(kept)) if wanted[1] else torch.empty(ctx.shape)
        # of several backward passes, or threads, one has the loan
        loan: Loan | None = ctx.__dict__.pop("loan", None)
        tiled = dtype == torch.float32 and tiles_pay(grad.numel() // max(len(weight), 1), weight)
        of_x = inputs.multiples_of(tuple(kept)) if tiled else None
        found = latent = None
        if tiled and loan is None and ctx.product.geometry is None:
            latent = _latent(weight, weights)
        if latent is not None:
            found = tiled_gradients(grad, Operand(values, of_x), latent, wanted)
        if found is None:
            quantized = torch.empty_like(weight) if loan is None else loan.tensor
            if wanted[0] and loan is None:
                weights.quantize(weight, quantized)
            own = loan is None or dtype != weight.dtype  # then it is the gradient's memory
            steps = of_x, weights.multiples_of(weight) if tiled else None
            found = ctx.product.differentiate(
                grad, values.to(dtype), quantized.to(dtype), wanted, own, steps
            )
        in_x, in_weight, in_bias = found
        by_inputs: tuple[Tensor | None, ...] = (None,) * of_inputs
        by_weights: tuple[Tensor | None, ...] = (None,) * len(weights.learned)
        if in_x is not None:
            in_x, by_inputs = inputs.differentiate(in_x.float().contiguous(), tuple(kept))
            in_x = in_x.to(narrow)
        if in_weight is not None:
            in_weight, by_weights = weights.differentiate(in_weight.float().contiguous(), weight)
        return in_x, in_weight, in_bias, *[None] * 6, *by_inputs, *by_weights


def multiply(
    weight: Tensor,
    bias: Tensor | None,
    inputs: InputOperand,
    weights: WeightOperand,
    product: OneBitProduct,
    encoded: Encoded,
    integers: bool,
    dtype: torch.dtype,
) -> tuple[Tensor, Loan | None]:
    """Return the product, without derivatives, and the quantized weights if they were multiplied.

    Arguments are as of :func:`quantized_product`.

    Args:
        weight, bias, inputs, weights, dtype: as there.
        product: with the geometry.
        encoded: what ``inputs`` made of the input.
        integers: whether to sum integers, as :func:`sums_integers` says.
    """
    if encoded.codes is not None and integers:
        y = _summed(weight, bias, inputs, weights, product.geometry, encoded.codes)
        if y is not None:
            return y.to(dtype), None
    values = inputs.values(encoded)
    x = latent = None
    if (
        product.geometry is None
        and dtype == torch.float32
        and tiles_pay(values.numel() // max(values.shape[-1], 1), weight)
    ):
        x, latent = Operand(values, inputs.multiples_of(encoded.kept)), _latent(weight, weights)
    if x is not None and latent is not None:
        y = tiled_product(x, latent, bias)
        if y is not None:
            return y, None
    loan = borrow_like(weight)
    quantized = weights.quantize(weight, loan.tensor)
    if x is not None:
        y = tiled_product(x, Operand(quantized, weights.multiples_of(weight)), bias)
        if y is not None:
            return y, loan
    bias = None if bias is None else bias.to(dtype)
    return product.multiply(values.to(dtype), quantized.to(dtype), bias), loan


def _latent(weight: Tensor, weights: WeightOperand) -> Operand | None:
    """Return weights that tile registers quantize themselves, ``None`` where they cannot."""
    ends = weights.rounded(weight)
    return None if ends is None else Operand(weight, weights.multiples_of(weight), ends)


def _summed(
    weight: Tensor,
    bias: Tensor | None,
    inputs: InputOperand,
    weights: WeightOperand,
    geometry: ConvolutionGeometry | None,
    codes: Tensor,
) -> Tensor | None:
    """Return the product by sums of integers, or ``None``."""
    loan = borrow_like(weight)
    levels, integers = inputs.levels, weights.integers(weight, loan.tensor)
    if levels is None or integers is None:
        return None
    if isinstance(levels.step, float):
        return level_product(codes, levels, integers, bias, geometry)
    y = level_product(codes, levels._replace(step=1.0), integers, None, geometry)
    if y is None:
        return None
    y.mul_(levels.step.view(*codes.shape[:-1], 1))
    return y if bias is None else y.add_(bias.detach())


def sums_integers(
    x: Tensor,
    weight: Tensor,
    inputs: InputOperand,
    weights: WeightOperand,
    geometry: ConvolutionGeometry | None,
) -> bool:
    """Return whether the product is summed as integers, as far as the operands tell."""
    levels = inputs.levels
    if levels is None or weights.integers(weight, None) is None:
        return False
    if geometry is not None and not isinstance(levels.step, float):
        return False  # a convolution's sum has tokens of several steps
    return levels_pay(x, weight, geometry)


def quantized_product(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    inputs: InputOperand,
    weights: WeightOperand,
    geometry: ConvolutionGeometry | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor | None:
    """Return ``q_x(x) * q_w(W) + bias``, multiplied and returned in ``dtype``.

    Args:
        x: input, on the CPU; (*, in) for a linear layer, (N, C, *size) for a convolution. It is
            quantized in float32, whatever its dtype.
        weight: latent weights, contiguous float32.
        bias: per output, or ``None``.
        inputs, weights: the operands' strategies.
        geometry: of a convolution; ``None`` for a linear layer.
        dtype: float32, or what autocast multiplies in.

    Returns:
        The product, or ``None`` for an input that compiled code cannot quantize, such as NaN. It
        can be differentiated once.
    """
    learned = (*inputs.learned, *weights.learned)
    learns = torch.is_grad_enabled() and (
        x.requires_grad or any(t.requires_grad for t in inputs.learned)
    )
    integers = sums_integers(x, weight, inputs, weights, geometry)
    x = x.contiguous()
    given = x.detach().to(dtype) if isinstance(inputs, FloatInput) else x.detach()
    encoded = inputs.encode(given, learns, integers)
    if encoded is None:
        return None
    product = OneBitProduct(None, None, Identity(), geometry)
    y: Tensor = _Quantized.apply(  # type: ignore[no-untyped-call]
        x, weight, bias, inputs, weights, product, encoded, integers, dtype, *learned
    )
    return y
