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
    TokenInput,
)
from ste_lightning.functional.products.learned_operand import Learned
from ste_lightning.functional.products.level_operands import (
    Codebook,
    Remade,
    SignWeights,
    TanhWeights,
    TernaryWeights,
)
from ste_lightning.functional.products.operand import FloatInput, InputOperand, WeightOperand
from ste_lightning.functional.products.quantized import quantized_product, sums_integers
from ste_lightning.functional.products.specification import ConvolutionGeometry, OneBitProduct
from ste_lightning.functional.products.threshold_operands import LearnedThresholds
from ste_lightning.functional.rules import Identity
from ste_lightning.functional.saved.codes import Grid
from ste_lightning.layers.one_bit import is_observed, is_plain
from ste_lightning.quantizers import (
    LSQ,
    N2UQ,
    PACT,
    TWN,
    APoT,
    BitNetTernary,
    Calibrated,
    DoReFa,
    LibraPB,
    LSQPlus,
    N2UQWeights,
    PowerOfTwo,
    Sign,
    Step,
    Ternary,
    Token,
    Uniform,
    mean_magnitude,
)
from ste_lightning.quantizers.n2uq import NARROWEST, RANGE

_logger = logging.getLogger("ste_lightning")

__all__ = ["input_operand", "is_settled", "operand_product", "weight_operand"]


def _learned(q: LSQ, x: Tensor) -> Learned | None:
    if q.binary or q.scale.dtype != torch.float32 or not q.ready(x):
        return None
    if q.granularity == "group" or (q.granularity == "channel" and q.channel_dim % x.dim() != 0):
        return None  # its parts are not one after the other in memory
    factor = q._gradient_factor(x)
    offset = SF.scale_gradient(q.offset, factor) if type(q) is LSQPlus else None
    return Learned(SF.scale_gradient(q.scale, factor), offset, float(q.low), float(q.high))


def _uniform_input(q: Uniform, x: Tensor) -> GridInput | None:
    if not q.ready():
        return None
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
    if q.granularity == "group":
        return None
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


def _dorefa_input(q: DoReFa, x: Tensor) -> GridInput | None:
    if q.operand != "activations":
        return None
    steps = 2**q.bits - 1
    one = float(torch.ones((), dtype=torch.float32) / steps)
    return GridInput(Grid(one, 0.0, 0.0, float(steps)), x.shape)


def _token(q: Token, x: Tensor) -> TokenInput:
    return TokenInput(q.high, x.shape)


def _pact(q: PACT, x: Tensor) -> ClippedInput | None:
    q.keep_positive(x)
    return ClippedInput(q.alpha, int(2**q.bits - 1), x.shape) if q.alpha.numel() == 1 else None


def _n2uq(q: N2UQ, x: Tensor) -> LearnedThresholds | None:
    q.keep_positive(x)
    learned = (q.start, q.widths, q.scale_in, q.scale_out)
    if not all(t.dtype == torch.float32 and math.isfinite(t.detach().sum()) for t in learned):
        return None
    return LearnedThresholds(*learned, NARROWEST, RANGE / q.steps)


def _dorefa_weights(q: DoReFa, weight: Tensor) -> TanhWeights | None:
    if q.operand != "weights" or q.bits == 1:
        return None
    return TanhWeights(int(2**q.bits - 1))


def _twn(q: TWN, weight: Tensor) -> TernaryWeights | None:
    along = q.granularity == "tensor" or q.channel_dim % weight.dim() == 0
    if q.group_size is not None or not along or (q.scale and not q.detach_scale):
        return None
    threshold, scale = q._threshold_and_scale(weight.detach())
    return TernaryWeights(q._rule, scale if q.scale else torch.ones_like(threshold), threshold)


def _ternary(q: Ternary, weight: Tensor) -> TernaryWeights | None:
    if q.group_size is not None:
        return None
    one = torch.ones(1)
    return TernaryWeights(q._rule, one, one * q.threshold)


def _sign(q: Sign, weight: Tensor) -> SignWeights | None:
    if q.scale == "none":
        return SignWeights(q._rule, None)
    if not q.detach_scale:
        return None
    return SignWeights(q._rule, mean_magnitude(weight.detach(), q.scale, q.channel_dim))


def _power_grid(q: APoT | PowerOfTwo, x: Tensor) -> Codebook | None:
    if q.alpha.dtype != torch.float32 or not q.ready(x):
        return None
    return Codebook(q.alpha, q._grid(torch.float32), q.multiples)


_INPUTS: dict[type[nn.Module], Callable[[Any, Tensor], InputOperand | None]] = {
    LSQ: _learned,
    LSQPlus: _learned,
    Uniform: _uniform_input,
    DoReFa: _dorefa_input,
    PACT: _pact,
    N2UQ: _n2uq,
    Token: _token,
    APoT: _power_grid,
    PowerOfTwo: _power_grid,
}
_WEIGHTS: dict[type[nn.Module], Callable[[Any, Tensor], WeightOperand | None]] = {
    LSQ: _learned,
    LSQPlus: _learned,
    Uniform: _uniform_weights,
    BitNetTernary: _bitnet,
    N2UQWeights: _n2uq_weights,
    DoReFa: _dorefa_weights,
    APoT: _power_grid,
    PowerOfTwo: _power_grid,
    TWN: _twn,
    Ternary: _ternary,
    Sign: _sign,
}
_ANY_RULE = (TWN, Ternary, Sign)
# maps without effects, which may be applied again; of an activation's running range only weights
_REMADE = (
    *(APoT, BitNetTernary, DoReFa, LSQ, LSQPlus, LibraPB, N2UQ, N2UQWeights, PACT, PowerOfTwo),
    *(Sign, Step, TWN, Ternary, Token, Uniform),
)
_LEAST_REMADE = 1 << 16  # elements from which applying a map again costs less than its memory


def is_settled(quantizer: nn.Module) -> bool:
    """Return whether nobody sees the quantizer's calls, and its rule and bit width are fixed."""
    if not is_plain(quantizer) or "bits" in quantizer._buffers:
        return False
    if type(quantizer) in _ANY_RULE:
        return not any(name.startswith("rule_") for name in quantizer._buffers)
    return type(getattr(quantizer, "_rule", None)) is Identity


def _remade(quantizer: nn.Module, x: Tensor) -> Remade | None:
    """Return the operand of a map that is applied again, if it may be and ``x`` is large."""
    free = type(quantizer) in _REMADE and not is_observed(quantizer) and x.is_cpu
    if not free or getattr(quantizer, "running", False) or x.numel() < _LEAST_REMADE:
        return None
    ready = quantizer.ready(x) if isinstance(quantizer, Calibrated) else True
    return Remade(quantizer) if ready else None


def weight_operand(quantizer: nn.Module | None, weight: Tensor) -> WeightOperand | None:
    """Return the operand of latent weights, or ``None`` for another computation."""
    if quantizer is None:
        return None
    make, operand = _WEIGHTS.get(type(quantizer)), None
    fits = weight.is_cpu and weight.dtype == torch.float32 and weight.is_contiguous()
    if make is not None and fits and weight.numel() > 0 and is_settled(quantizer):
        operand = make(quantizer, weight)
        numbers = getattr(operand, "constants", None)
        if numbers is not None and not math.isfinite(numbers.sum()):
            return None
    return _remade(quantizer, weight) if operand is None else operand


def input_operand(quantizer: nn.Module | None, x: Tensor) -> InputOperand | None:
    """Return the operand of a layer's input, or ``None`` for another computation.

    A running range sees the input, and only then.
    """
    if quantizer is None:
        return FloatInput()
    make, operand = _INPUTS.get(type(quantizer)), None
    if make is not None and x.is_cpu and x.numel() > 0 and is_settled(quantizer):
        operand = make(quantizer, x)
    return _remade(quantizer, x) if operand is None else operand


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
    if dtype not in (torch.float32, torch.bfloat16):
        return None
    of_inputs = None if of_weights is None else input_operand(inputs, x)
    if of_weights is None or of_inputs is None:
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
