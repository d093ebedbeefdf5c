"""Products of operands on uniform grids that keep codes of the input for the backward pass.

The input waits as its codes (four bits each where they are enough) and, if a gradient passes
through it, one bit per element that says where. Quantized weights are made again. Gradients equal
the plain composition's bit for bit; outputs do where floats are multiplied, and to rounding where
integers are summed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ste_lightning.functional.estimator.eager import untraced
from ste_lightning.functional.products.integer_forward import level_product, levels_pay
from ste_lightning.functional.products.specification import ConvolutionGeometry, OneBitProduct
from ste_lightning.functional.rules.windows import Identity
from ste_lightning.functional.saved import bit_masks as packed
from ste_lightning.functional.saved.uniform_codes import Coded, InputGrid, WeightGrid
from ste_lightning.functional.saved.workspace import borrow_like

__all__ = ["uniform_product"]


class _Uniform(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        codes: Tensor | None,
        mask: Tensor | None,
        inputs: InputGrid | None,
        weights: WeightGrid,
        product: OneBitProduct,
    ) -> Tensor:
        ctx.product, ctx.weights, ctx.coded, kept = product, weights, None, x
        if codes is not None and inputs is not None:
            ctx.coded = Coded(inputs, x.shape)
            kept = ctx.coded.kept(codes)
        ctx.save_for_backward(weight, kept, mask)
        return _multiply(x, weight, bias, codes, inputs, weights, product)

    @staticmethod
    @untraced  # compiled autograd looks into backward passes
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        weight, kept, mask = ctx.saved_tensors
        wanted = ctx.needs_input_grad[:3]
        values = kept if ctx.coded is None else ctx.coded.values(kept)
        quantized = torch.empty_like(weight)  # the gradient's memory
        if wanted[0]:
            ctx.weights.quantize(weight, quantized)
        in_x, in_weight, in_bias = ctx.product.differentiate(grad, values, quantized, wanted)
        if in_x is not None and mask is not None:
            in_x = packed.mask_gradient(in_x.contiguous(), mask, 0.0)
        if in_weight is not None:
            in_weight = ctx.weights.clip(in_weight.contiguous(), weight)
        return in_x, in_weight, in_bias, None, None, None, None, None


def _multiply(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    codes: Tensor | None,
    inputs: InputGrid | None,
    weights: WeightGrid,
    product: OneBitProduct,
) -> Tensor:
    values = x
    if codes is not None and inputs is not None:
        outputs = len(weight)
        one_per_output = weights.symmetric and weights.steps.numel() in (1, outputs)
        if one_per_output and levels_pay(codes, weight, product.geometry):
            steps = weights.steps.expand(outputs).contiguous().numpy()
            levels = weights.low, weights.high
            y = level_product(codes, inputs, weight, steps, levels, bias, product.geometry)
            if y is not None:
                return y
        values = inputs.values(codes)
    loan = borrow_like(weight)
    return product.multiply(values, weights.quantize(weight, loan.tensor), bias)


def uniform_product(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    inputs: InputGrid | None,
    weights: WeightGrid,
    geometry: ConvolutionGeometry | None = None,
) -> Tensor | None:
    """Return ``q(x) * q(W) + bias`` with ``q(v) = s (clip(round(v / s + z), low, high) - z)``.

    Args:
        x: input, float32 on the CPU; (*, in), or (N, C, *size) for a convolution.
        weight: latent weights, contiguous.
        bias: per output, or ``None``.
        inputs: the input's grid, ``None`` for float inputs.
        weights: the weights' grids; all are constants of the backward pass.
        geometry: of a convolution; ``None`` for a linear layer.

    Returns:
        The product, or ``None`` for an input that is not a number. It can be differentiated once,
        by the identity rule inside the grids' ends.
    """
    learns, codes, mask = torch.is_grad_enabled(), None, None
    if inputs is not None:
        x = x.contiguous()
        found = inputs.codes(x.detach(), masked=learns and x.requires_grad)
        if found is None:
            return None
        codes, mask = found
    product = OneBitProduct(None, None, Identity(), geometry)
    if not (learns and any(t is not None and t.requires_grad for t in (x, weight, bias))):
        return _multiply(x, weight, bias, codes, inputs, weights, product)
    y: Tensor = _Uniform.apply(  # type: ignore[no-untyped-call]
        x, weight, bias, codes, mask, inputs, weights, product
    )
    return y
