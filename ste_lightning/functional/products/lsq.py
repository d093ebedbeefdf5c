"""Products of operands with learned steps that keep no quantized operand for the backward pass.

The gradient of a step needs the float operand's distance to its level. That operand is kept (the
latent weights are anyway); its quantized values, which the plain composition keeps beside it, are
made again. Gradients equal the plain composition's bit for bit, outputs too where they are the
same float product; where integers are summed (:mod:`.integer_forward`) they are nearer the exact
ones, and the plain composition's to rounding.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ste_lightning.functional.estimator.eager import untraced
from ste_lightning.functional.estimator.lsq_step import Step, native_step
from ste_lightning.functional.learned_scale import SMALLEST
from ste_lightning.functional.products.integer_forward import level_product, levels_pay
from ste_lightning.functional.products.specification import ConvolutionGeometry, OneBitProduct
from ste_lightning.functional.rules.windows import Identity
from ste_lightning.functional.saved.uniform_codes import InputGrid
from ste_lightning.functional.saved.workspace import borrow_like

__all__ = ["learned_product"]

Levels = tuple[float, float]


class _Learned(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        input_scale: Tensor | None,
        weight_scale: Tensor,
        bias: Tensor | None,
        product: OneBitProduct,
        input_step: Step | None,
        weight_step: Step,
    ) -> Tensor:
        ctx.product, ctx.steps = product, (input_step, weight_step)
        ctx.save_for_backward(x, weight, input_scale, weight_scale)
        if input_step is not None and levels_pay(x, weight, product.geometry):
            y = _summed(x, weight, bias, input_step, weight_step, product.geometry)
            if y is not None:
                return y
        values = x if input_step is None else input_step.quantize(x)
        loan = borrow_like(weight)
        return product.multiply(values, weight_step.quantize(weight, loan.tensor), bias)

    @staticmethod
    @untraced  # compiled autograd looks into backward passes
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, input_scale, weight_scale = ctx.saved_tensors
        input_step, weight_step = ctx.steps
        needs = ctx.needs_input_grad
        wanted = (needs[0] or needs[2], needs[1] or needs[3], needs[4])
        values = x if input_step is None else input_step.quantize(x)
        # the gradient's memory; without a gradient in the input nobody reads these weights
        quantized = weight_step.quantize(weight) if wanted[0] else torch.empty_like(weight)
        in_x, in_weight, in_bias = ctx.product.differentiate(grad, values, quantized, wanted)
        in_input_scale = in_weight_scale = None
        if in_x is not None and input_step is not None:
            in_x, by_step = input_step.differentiate(in_x.contiguous(), x)
            in_input_scale = by_step.view(input_scale.shape)
        if in_weight is not None:
            in_weight, by_step = weight_step.differentiate(in_weight.contiguous(), weight)
            in_weight_scale = by_step.view(weight_scale.shape)
        return in_x, in_weight, in_input_scale, in_weight_scale, in_bias, None, None, None


def _summed(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    inputs: Step,
    weights: Step,
    geometry: ConvolutionGeometry | None,
) -> Tensor | None:
    if inputs.high - inputs.low >= 256:
        return None
    grid = InputGrid(inputs.step, 0.0, inputs.low, inputs.high)
    found = grid.codes(x, masked=False)
    if found is None:
        return None
    steps, levels = np.full(len(weight), weights.step, np.float32), (weights.low, weights.high)
    return level_product(found[0], grid, weight, steps, levels, bias, geometry)


def learned_product(
    x: Tensor,
    weight: Tensor,
    input_scale: Tensor | None,
    weight_scale: Tensor,
    bias: Tensor | None,
    input_levels: Levels,
    weight_levels: Levels,
    geometry: ConvolutionGeometry | None = None,
) -> Tensor | None:
    """Return ``q(x) * q(W) + bias`` with ``q(v) = s round(clip(v / s, low, high))``.

    Args:
        x: input, float32; (*, in) for a linear layer, (N, C, *size) for a convolution.
        weight: latent weights.
        input_scale, weight_scale: the learned steps, of one element; ``None`` for float inputs.
        bias: per output, or ``None``.
        input_levels, weight_levels: the lowest and the highest level.
        geometry: of a convolution; ``None`` for a linear layer.

    Returns:
        The product, or ``None`` where compiled code cannot take the steps. It can be
        differentiated once, by the identity rule.
    """
    input_step = None
    if input_scale is not None:
        input_step = native_step(x, input_scale, None, *input_levels, SMALLEST)
        if input_step is None:
            return None
    weight_step = native_step(weight, weight_scale, None, *weight_levels, SMALLEST)
    if weight_step is None:
        return None
    product = OneBitProduct(None, None, Identity(), geometry)
    y: Tensor = _Learned.apply(  # type: ignore[no-untyped-call]
        x, weight, input_scale, weight_scale, bias, product, input_step, weight_step
    )
    return y
