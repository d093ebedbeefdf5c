"""Products of operands of several bits as operators of torch.library, kept whole by the compiler.

The compiled graph keeps what the eager layer does: codes and masks, or the float input. The
compiler finds steps and ranges, adds the bias, and differentiates what made the steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, List, NamedTuple  # noqa: UP035  torch 2.6 knows lists by this name

import torch
from torch import Tensor

from ste_lightning.functional.products.grid_operands import (
    GridInput,
    GridWeights,
    TokenInput,
)
from ste_lightning.functional.products.learned_operand import Learned
from ste_lightning.functional.products.operand import FloatInput, InputOperand, WeightOperand
from ste_lightning.functional.products.quantized import multiply, sums_integers
from ste_lightning.functional.products.specification import ConvolutionGeometry, OneBitProduct
from ste_lightning.functional.rules.windows import Identity
from ste_lightning.functional.saved.codes import Grid

__all__ = ["Described", "compiled_quantized_product"]


class Described(NamedTuple):
    """An operand as the operators take it.

    Attributes:
        kind: ``"float"``, ``"grid"``, ``"token"`` or ``"learned"``.
        tensors: steps and zero points of a grid, or the learned step.
        ends: the lowest and the highest level; of a token the highest; of weights on a grid also
            whether all zero points are 0, and whether no weight lies outside.
    """

    kind: str
    tensors: tuple[Tensor, ...] = ()
    ends: tuple[float, ...] = ()


def _input(kind: str, of: Sequence[Tensor], ends: Sequence[float], shape: Any) -> InputOperand:
    if kind == "grid":
        return GridInput(Grid(of[0].item(), of[1].item(), *ends), torch.Size(shape))
    if kind == "token":
        return TokenInput(int(ends[0]), torch.Size(shape))
    return FloatInput() if kind == "float" else Learned(of[0], None, *ends)


def _weights(kind: str, of: Sequence[Tensor], ends: Sequence[float]) -> WeightOperand:
    if kind == "learned":
        return Learned(of[0], None, *ends)
    low, high, symmetric, covers = ends
    steps, zeros = (t.contiguous() for t in of)
    return GridWeights(steps, zeros, low, high, bool(symmetric), bool(covers))


def _product_of(place: Sequence[Any]) -> OneBitProduct:
    stride, padding, dilation, groups, pad_value = place
    geometry = None
    if len(stride) > 0:
        spatial = (tuple(stride), tuple(padding), tuple(dilation))
        geometry = ConvolutionGeometry(*spatial, groups, pad_value)
    return OneBitProduct(None, None, Identity(), geometry)


@torch.library.custom_op("ste_lightning::quantized_product", mutates_args=())
def _product(
    x: Tensor,
    weight: Tensor,
    inputs: str,
    of_inputs: Sequence[Tensor],
    input_ends: Sequence[float],
    weights: str,
    of_weights: Sequence[Tensor],
    weight_ends: Sequence[float],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    pad_value: float,
) -> List[Tensor]:  # noqa: UP006
    x, weight = x.contiguous(), weight.contiguous()
    product = _product_of((stride, padding, dilation, groups, pad_value))
    a, b = (
        _input(inputs, of_inputs, input_ends, x.shape),
        _weights(weights, of_weights, weight_ends),
    )
    integers = sums_integers(x, weight, a, b, product.geometry)
    encoded = a.encode(x, True, integers)
    if encoded is None:  # not finite somewhere, which must spread
        encoded = a.encode(x.nan_to_num(0.0, 0.0, 0.0), True, False)
        assert encoded is not None
        quantized = b.quantize(weight, torch.empty_like(weight))
        y = product.multiply(a.values(encoded) + (x - x), quantized, None)
    else:
        y, _ = multiply(weight, None, a, b, product, encoded, integers, x.dtype)
    kept = encoded.kept if inputs in ("grid", "token") else ()
    return [y.contiguous(), *kept]


@_product.register_fake
def _(
    x: Tensor,
    weight: Tensor,
    inputs: str,
    of_inputs: Sequence[Tensor],
    input_ends: Sequence[float],
    weights: str,
    of_weights: Sequence[Tensor],
    weight_ends: Sequence[float],
    *place: Any,
) -> list[Tensor]:
    y = x.new_empty(_product_of(place).multiply(x, weight, None).shape)
    count = x.numel()
    if inputs == "token":
        return [y, x.new_empty(x.shape, dtype=torch.uint8), x.new_empty(count // x.shape[-1])]
    if inputs != "grid":
        return [y]
    halves = input_ends[1] - input_ends[0] < 16
    codes = x.new_empty((count + 1) // 2 if halves else x.shape, dtype=torch.uint8)
    return [y, codes, x.new_empty(4 * ((count + 31) // 32), dtype=torch.uint8)]


@torch.library.custom_op("ste_lightning::quantized_product_backward", mutates_args=())
def _product_backward(
    grad: Tensor,
    kept: Sequence[Tensor],
    weight: Tensor,
    shape: Sequence[int],
    needs_x: bool,
    inputs: str,
    of_inputs: Sequence[Tensor],
    input_ends: Sequence[float],
    weights: str,
    of_weights: Sequence[Tensor],
    weight_ends: Sequence[float],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    pad_value: float,
) -> List[Tensor]:  # noqa: UP006
    grad, weight = grad.contiguous(), weight.contiguous()
    waiting = tuple(t.contiguous() for t in kept)
    product = _product_of((stride, padding, dilation, groups, pad_value))
    a, b = _input(inputs, of_inputs, input_ends, shape), _weights(weights, of_weights, weight_ends)
    quantized = torch.empty_like(weight)
    if needs_x:
        b.quantize(weight, quantized)
    values = a.values_of_kept(waiting)
    steps = a.multiples_of(waiting), b.multiples_of(weight)
    wanted = needs_x, True, False
    in_x, in_weight, _ = product.differentiate(grad, values, quantized, wanted, True, steps)
    found: list[Tensor] = []
    by_inputs: Sequence[Tensor | None] = ()
    if in_x is not None:
        in_x, by_inputs = a.differentiate(in_x.contiguous(), waiting)
    assert in_weight is not None
    in_weight, by_weights = b.differentiate(in_weight.contiguous(), weight)
    found = [grad.new_empty(0) if in_x is None else in_x, in_weight]
    return found + [t for t in (*by_inputs, *by_weights) if t is not None]


@_product_backward.register_fake
def _(
    grad: Tensor,
    kept: Sequence[Tensor],
    weight: Tensor,
    shape: Sequence[int],
    needs_x: bool,
    inputs: str,
    of_inputs: Sequence[Tensor],
    input_ends: Sequence[float],
    weights: str,
    of_weights: Sequence[Tensor],
    *rest: Any,
) -> list[Tensor]:
    learned = [*(of_inputs if inputs == "learned" and needs_x else ())]
    learned += of_weights if weights == "learned" else ()
    first = [grad.new_empty(shape if needs_x else 0), torch.empty_like(weight)]
    return first + [torch.empty_like(t) for t in learned]


class _Compiled(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        needs_x: bool,
        count: int,
        inputs: str,
        input_ends: Sequence[float],
        weights: str,
        weight_ends: Sequence[float],
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
        groups: int,
        pad_value: float,
        *tensors: Tensor,
    ) -> Tensor:
        place = (stride, padding, dilation, groups, pad_value)
        of_inputs, of_weights = list(tensors[:count]), list(tensors[count:])
        y: Tensor
        y, *kept = _product(
            x, weight, inputs, of_inputs, input_ends, weights, of_weights, weight_ends, *place
        )
        kept = kept if inputs in ("grid", "token") else [x]
        ctx.save_for_backward(weight, *tensors, *kept)
        ctx.shape, ctx.needs_x, ctx.count, ctx.tensors = x.shape, needs_x, count, len(tensors)
        ctx.kinds, ctx.place = (inputs, input_ends, weights, weight_ends), place
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        weight, *saved = ctx.saved_tensors
        tensors, kept = saved[: ctx.tensors], saved[ctx.tensors :]
        inputs, input_ends, weights, weight_ends = ctx.kinds
        of_inputs, of_weights = list(tensors[: ctx.count]), list(tensors[ctx.count :])
        in_x, in_weight, *learned = _product_backward(
            *(grad, kept, weight, ctx.shape, ctx.needs_x, inputs, of_inputs, input_ends),
            *(weights, of_weights, weight_ends, *ctx.place),
        )
        by_inputs: list[Tensor | None] = [None] * len(of_inputs)
        by_weights: list[Tensor | None] = [None] * len(of_weights)
        if weights == "learned":
            by_weights = [learned[-1]]
        if inputs == "learned" and ctx.needs_x:
            by_inputs = [learned[0]]
        first = in_x if ctx.needs_x else None
        return first, in_weight, *[None] * 11, *by_inputs, *by_weights


def compiled_quantized_product(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    inputs: Described,
    weights: Described,
    geometry: ConvolutionGeometry | None,
) -> Tensor:
    """Return ``q_x(x) * q_w(W) + bias`` by operators.

    Args:
        x, weight, bias, geometry: as of
            :func:`~ste_lightning.functional.products.quantized.quantized_product`, in float32.
        inputs, weights: the operands.
    """
    place: list[Any] = [[], [], [], 1, 0.0]
    if geometry is not None:
        g = geometry
        place = [list(g.stride), list(g.padding), list(g.dilation), g.groups, g.pad_value]
    needs_x = x.requires_grad or any(t.requires_grad for t in inputs.tensors)
    y: Tensor = _Compiled.apply(  # type: ignore[no-untyped-call]
        *(x, weight, needs_x, len(inputs.tensors), inputs.kind, list(inputs.ends)),
        *(weights.kind, list(weights.ends), *place, *inputs.tensors, *weights.tensors),
    )
    if bias is None:
        return y
    return y + bias.view(-1, *[1] * (0 if geometry is None else weight.dim() - 2))
