"""Which layers of several bits are operators for ``torch.compile``."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ste_lightning import functional as SF
from ste_lightning.functional.products.level_operators import (
    Described,
    compiled_quantized_product,
)
from ste_lightning.functional.products.specification import ConvolutionGeometry
from ste_lightning.layers.operands import is_settled
from ste_lightning.quantizers import LSQ, BitNetTernary, Token, Uniform

__all__ = ["compiled_operand_product"]

_LEAST_WEIGHTS = 1 << 13  # smaller layers are faster as part of the compiled graph


def _learned(q: LSQ, x: Tensor) -> Described | None:
    if q.binary or q.scale.dtype != torch.float32 or not q.ready(x):
        return None
    if q.granularity == "channel" and q.channel_dim % x.dim() != 0:
        return None
    scale = SF.scale_gradient(q.scale, q._gradient_factor(x))
    return Described("learned", (scale,), (float(q.low), float(q.high)))


def _ends(q: Uniform) -> tuple[float, float]:
    low, high = q.ends()
    return float(low), float(high)


def _input(q: nn.Module | None, x: Tensor) -> Described | None:
    if q is None:
        return Described("float")
    if not is_settled(q):
        return None
    if type(q) is LSQ:
        return _learned(q, x)
    if type(q) is Token:
        return Described("token", (), (float(q.high),))
    if type(q) is not Uniform or not q.ready():
        return None
    step, zero = q.scale_and_zero(x.detach())
    zeros = zero.reshape(()) if isinstance(zero, Tensor) else torch.zeros_like(step).reshape(())
    return Described("grid", (step.reshape(()), zeros), _ends(q))


def _weights(q: nn.Module | None, weight: Tensor) -> Described | None:
    if q is None or not is_settled(q):
        return None
    if type(q) is LSQ:
        return _learned(q, weight)
    if type(q) is BitNetTernary and q.granularity == "tensor":
        steps = q._scale(weight.detach()).reshape(-1)
        return Described("grid", (steps, torch.zeros_like(steps)), (-1.0, 1.0, 1.0, 1.0))
    if type(q) is not Uniform or q.binary:
        return None
    if q.channel_dim % weight.dim() != 0 and q.granularity != "tensor":
        return None
    steps, zeros = q.scale_and_zero(q.grouped(weight.detach()))
    steps = steps.reshape(-1)
    zeros = zeros.reshape(-1) if isinstance(zeros, Tensor) else torch.zeros_like(steps)
    covers = q.symmetric and q.range == "minmax"
    return Described("grid", (steps, zeros), (*_ends(q), float(q.symmetric), float(covers)))


def compiled_operand_product(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    weights: nn.Module | None,
    inputs: nn.Module | None,
    geometry: ConvolutionGeometry | None,
) -> Tensor | None:
    """Return the layer's output by operators, or ``None`` where the plain composition does it.

    Args:
        x, weight, bias, geometry: of the layer.
        weights, inputs: its quantizers.
    """
    fits = x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32
    if not fits or weight.numel() < _LEAST_WEIGHTS or (geometry and isinstance(inputs, Token)):
        return None
    of_weights = _weights(weights, weight)
    of_inputs = None if of_weights is None else _input(inputs, x)
    if of_weights is None or of_inputs is None:
        return None
    return compiled_quantized_product(x, weight, bias, of_inputs, of_weights, geometry)
