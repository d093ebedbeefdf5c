"""Which quantizers have operands that wait as codes, masks or floats, and which operands."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ste_lightning import functional as SF
from ste_lightning.functional.products.grid_operands import (
    ClippedInput,
    GridInput,
    GridWeights,
    Learned,
    TokenInput,
)
from ste_lightning.functional.products.operand import FloatInput, InputOperand, WeightOperand
from ste_lightning.functional.products.quantized import quantized_product, sums_integers
from ste_lightning.functional.products.specification import ConvolutionGeometry, OneBitProduct
from ste_lightning.functional.rules import Identity
from ste_lightning.functional.saved.codes import Grid
from ste_lightning.layers.one_bit import is_plain
from ste_lightning.quantizers import (
    LSQ,
    PACT,
    BitNetTernary,
    DoReFa,
    LSQPlus,
    N2UQWeights,
    Token,
    Uniform,
)

_logger = logging.getLogger("ste_lightning")

__all__ = ["input_operand", "operand_product", "weight_operand"]


def _learned(q: LSQ, x: Tensor) -> Learned | None:
    if not q._ready or q.binary or q.scale.dtype != torch.float32:
        return None
    if q.granularity == "channel" and q.channel_dim % x.dim() != 0:
        return None  # its parts are not one after the other in memory
    factor = q._gradient_factor(x)
    offset = SF.scale_gradient(q.offset, factor) if type(q) is LSQPlus else None
    return Learned(SF.scale_gradient(q.scale, factor), offset, float(q.low), float(q.high))


def _uniform_input(q: Uniform, x: Tensor) -> GridInput:
    step, zero = (float(v) for v in q.scale_and_zero(x.detach().float()))
    low, high = (float(end) for end in q.ends())
    return GridInput(Grid(step, zero, low, high), x.shape)


def _uniform_weights(q: Uniform, weight: Tensor) -> GridWeights | None:
    if q.binary or (q.channel_dim % weight.dim() != 0 and q.granularity != "tensor"):
        return None
    steps, zeros = q.scale_and_zero(q.grouped(weight.detach()))
    steps = steps.reshape(-1)
    zeros = zeros.reshape(-1) if isinstance(zeros, Tensor) else torch.zeros_like(steps)
    low, high = (float(end) for end in q.ends())
    covers = q.symmetric and q.range == "minmax"
    return GridWeights(steps, zeros, low, high, q.symmetric, covers)


def _bitnet(q: BitNetTernary, weight: Tensor) -> GridWeights | None:
    if q.granularity == "channel" and q.channel_dim % weight.dim() != 0:
        return None
    steps = q._scale(weight.detach()).reshape(-1)
    return GridWeights(steps, torch.zeros_like(steps), -1.0, 1.0, True, True)


def _n2uq_weights(q: N2UQWeights, weight: Tensor) -> GridWeights | None:
    if q.steps == 1 or q.channel_dim % weight.dim() != 0:
        return None
    half = q.steps / 2
    steps = (q._bound(weight.detach()) / half).reshape(-1)
    return GridWeights(steps, torch.full_like(steps, half), 0.0, float(q.steps), False, False)


def _dorefa_input(q: DoReFa, x: Tensor) -> GridInput:
    steps = 2**q.bits - 1
    one = float(torch.ones((), dtype=torch.float32) / steps)
    return GridInput(Grid(one, 0.0, 0.0, float(steps)), x.shape)


def _token(q: Token, x: Tensor) -> TokenInput:
    return TokenInput(q.high, x.shape)


def _pact(q: PACT, x: Tensor) -> ClippedInput | None:
    return ClippedInput(q.alpha, int(2**q.bits - 1), x.shape) if q.alpha.numel() == 1 else None


_INPUTS: dict[type[nn.Module], Callable[[Any, Tensor], InputOperand | None]] = {
    LSQ: _learned,
    LSQPlus: _learned,
    Uniform: _uniform_input,
    DoReFa: _dorefa_input,
    PACT: _pact,
    Token: _token,
}
_WEIGHTS: dict[type[nn.Module], Callable[[Any, Tensor], WeightOperand | None]] = {
    LSQ: _learned,
    LSQPlus: _learned,
    Uniform: _uniform_weights,
    BitNetTernary: _bitnet,
    N2UQWeights: _n2uq_weights,
}


def _is_constant(quantizer: nn.Module) -> bool:
    """Return whether nobody sees the quantizer's calls, and its rule and bit width are fixed."""
    fixed = is_plain(quantizer) and "bits" not in quantizer._buffers
    return fixed and type(getattr(quantizer, "_rule", None)) is Identity


def weight_operand(quantizer: nn.Module | None, weight: Tensor) -> WeightOperand | None:
    """Return the operand of latent weights, or ``None`` for another computation."""
    make = None if quantizer is None else _WEIGHTS.get(type(quantizer))
    if make is None or quantizer is None or not _is_constant(quantizer):
        return None
    fits = weight.is_cpu and weight.dtype == torch.float32 and weight.is_contiguous()
    operand = make(quantizer, weight) if fits and weight.numel() > 0 else None
    if isinstance(operand, GridWeights) and not math.isfinite(operand.steps.sum()):
        return None
    return operand


def input_operand(quantizer: nn.Module | None, x: Tensor) -> InputOperand | None:
    """Return the operand of a layer's input, or ``None`` for another computation.

    A running range sees the input, and only then.
    """
    if quantizer is None:
        return FloatInput()
    make = _INPUTS.get(type(quantizer))
    if make is None or not _is_constant(quantizer) or not x.is_cpu or x.numel() == 0:
        return None
    return make(quantizer, x)


def operand_product(
    layer: nn.Module,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    geometry: ConvolutionGeometry | None,
    dtype: torch.dtype,
) -> Tensor | None:
    """Return the product of operands quantized by the layer's quantizers, or ``None``.

    Args:
        layer: who has the quantizers.
        x, weight, bias, geometry, dtype: as of
            :func:`~ste_lightning.functional.products.quantized.quantized_product`.
    """
    weights, inputs = (layer._modules.get(f"{k}_quantizer") for k in ("weight", "input"))
    of_weights = weight_operand(weights, weight)
    if of_weights is None or (isinstance(inputs, Token) and geometry is not None):
        return None  # a token lies along the last axis, which a convolution mixes
    of_inputs = input_operand(inputs, x)
    if of_inputs is None:
        return None
    y = quantized_product(x, weight, bias, of_inputs, of_weights, geometry, dtype)
    if y is None and isinstance(of_inputs, GridInput):
        assert weights is not None
        # the same grid, since a running range has seen this batch
        grid = of_inputs.grid
        ends = torch.tensor(grid.step), grid.zero, grid.low, grid.high
        values, product = (
            SF.fake_quantize(x, *ends, Identity()),
            OneBitProduct(None, None, Identity(), geometry),
        )
        return product.multiply(values, weights(weight), bias)
    if y is not None and _logger.isEnabledFor(logging.DEBUG):
        summed = sums_integers(x, weight, of_inputs, of_weights, geometry)
        kind = "integer" if summed else "float"
        _logger.debug("%r: keeps %s, %s product", layer, of_inputs.keeps, kind)
    return y
