"""The one-bit product as operators of torch.library, which ``torch.compile`` keeps whole.

Bits and masks of the input are all that the compiled graph keeps for them; sign(W) is made
again in the backward pass. The compiler adds scale, bias and the weights' backward rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ste_lightning.functional.estimator.surrogate import Surrogate, rule_class, surrogate
from ste_lightning.functional.products.lut_gradients import looked_up_gradients
from ste_lightning.functional.products.popcount_forward import counted_product
from ste_lightning.functional.products.specification import ConvolutionGeometry, OneBitProduct
from ste_lightning.functional.products.tile_products import ONE, gradient_format
from ste_lightning.functional.saved import bit_masks as packed
from ste_lightning.kernels import SIGNS

__all__ = ["compiled_one_bit_product", "fits_an_operator"]

_LEAST_WEIGHTS = 1 << 13  # smaller layers are faster as part of the compiled graph
_HALF = 2048  # integers up to this are exact in 16 bits


def fits_an_operator(x: Tensor, weight: Tensor, spec: OneBitProduct) -> bool:
    """Return whether the operators can take the product, and are worth it."""
    rule, weight_rule = spec.input_rule, spec.weight_rule
    if rule is None:
        return False
    values = (*rule.parameters().values(), *weight_rule.parameters().values())
    describable = all(isinstance(value, (int, float)) for value in values)
    one_bit = rule.remembers == "nothing" or type(rule).window is not Surrogate.window
    return (
        describable
        and one_bit
        and x.dtype == weight.dtype == torch.float32
        and x.device.type == "cpu"
        and weight.numel() >= _LEAST_WEIGHTS
    )


def _specification(
    input_map: str,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    pad_value: float,
) -> OneBitProduct:
    geometry = None
    if len(stride) > 0:
        geometry = ConvolutionGeometry(
            tuple(stride), tuple(padding), tuple(dilation), groups, pad_value
        )
    identity = surrogate("identity")
    return OneBitProduct(input_map, identity, identity, geometry)


def _rule(name: str, parameters: Sequence[float]) -> Surrogate:
    return surrogate(name, **dict(zip(rule_class(name).parameter_names, parameters, strict=True)))


def _numbers(rule: Surrogate) -> list[float]:
    return [float(value) for value in rule.parameters().values()]


@torch.library.custom_op("ste_lightning::one_bit_product", mutates_args=())
def _product(
    x: Tensor,
    weight: Tensor,
    input_map: str,
    rule: str,
    parameters: Sequence[float],
    weight_rule: str,
    weight_parameters: Sequence[float],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    pad_value: float,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor]:
    spec = _specification(input_map, stride, padding, dilation, groups, pad_value)
    x, weight = x.contiguous(), weight.contiguous()
    bits, mask = packed.pack(x, input_map == "step", _rule(rule, parameters).window(x.dtype))
    y = counted_product(x, weight, None, None, spec, dtype)
    if y is None:
        y = spec.multiply(spec.unpacked(bits, x.shape, x.dtype), packed.signs(weight), None)
    y = y.to(dtype).contiguous()
    return y, bits, bits.new_empty(0) if mask is None else mask


@_product.register_fake
def _(
    x: Tensor,
    weight: Tensor,
    input_map: str,
    rule: str,
    parameters: Sequence[float],
    weight_rule: str,
    weight_parameters: Sequence[float],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    pad_value: float,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor]:
    spec = _specification(input_map, stride, padding, dilation, groups, pad_value)
    shape = spec.multiply(x, weight, None).shape
    size = 4 * ((x.numel() + 31) // 32)
    masked = size if _remembers_a_mask(rule) else 0
    bits = x.new_empty(size, dtype=torch.uint8)
    return x.new_empty(shape, dtype=dtype), bits, x.new_empty(masked, dtype=torch.uint8)


def _remembers_a_mask(rule: str) -> bool:
    return rule_class(rule).window is not Surrogate.window


@torch.library.custom_op("ste_lightning::one_bit_product_backward", mutates_args=())
def _product_backward(
    grad: Tensor,
    weight: Tensor,
    bits: Tensor,
    mask: Tensor,
    shape: Sequence[int],
    input_map: str,
    rule: str,
    parameters: Sequence[float],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    pad_value: float,
) -> tuple[Tensor, Tensor]:
    spec, size = (
        _specification(input_map, stride, padding, dilation, groups, pad_value),
        torch.Size(shape),
    )
    grad, weight = grad.contiguous(), weight.contiguous()
    in_x: Tensor | None
    in_signs: Tensor | None
    looked_up = gradient_format(SIGNS) == "float_sums"
    found = looked_up_gradients(grad, weight, bits, size, spec) if looked_up else None
    if found is not None:
        in_x, in_signs = found
    else:
        values = spec.unpacked(bits, size, grad.dtype)
        wanted, steps = (True, True, False), (ONE, ONE)
        in_x, in_signs, _ = spec.differentiate(
            grad, values, packed.signs(weight), wanted, True, steps
        )
    assert in_x is not None
    assert in_signs is not None
    in_x = in_x.contiguous()
    window = _rule(rule, parameters).window(grad.dtype)
    if window is not None:
        in_x = packed.mask_gradient(in_x, mask, window.outside)
    return in_x, in_signs.contiguous()


@_product_backward.register_fake
def _(
    grad: Tensor,
    weight: Tensor,
    bits: Tensor,
    mask: Tensor,
    shape: Sequence[int],
    input_map: str,
    rule: str,
    parameters: Sequence[float],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    pad_value: float,
) -> tuple[Tensor, Tensor]:
    return grad.new_empty(shape), grad.new_empty(weight.shape)


class _Compiled(torch.autograd.Function):
    """The product, which the graph keeps in ``dtype`` while its gradient has the input's."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, *rest: Any) -> Tensor:
        y, bits, mask = _product(x, weight, *rest)
        ctx.save_for_backward(weight, bits, mask)
        ctx.shape, ctx.rest = x.shape, rest
        out: Tensor = y.to(x.dtype)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        weight, bits, mask = ctx.saved_tensors
        input_map, rule, parameters, weight_rule, weight_parameters, *place, _ = ctx.rest
        in_x, in_signs = _product_backward(
            grad, weight, bits, mask, ctx.shape, input_map, rule, parameters, *place
        )
        in_weight = _rule(weight_rule, weight_parameters).coarse_gradient(in_signs, weight)
        return in_x, in_weight, *[None] * len(ctx.rest)


def _dtype_of(weight: Tensor, pad_value: float) -> torch.dtype:
    """Return the narrowest dtype that holds the product exactly."""
    exact = pad_value in (-1.0, 0.0, 1.0) and weight[0].numel() <= _HALF
    return torch.float16 if exact else weight.dtype


def compiled_one_bit_product(
    x: Tensor, weight: Tensor, scale: Tensor | None, bias: Tensor | None, spec: OneBitProduct
) -> Tensor:
    """Return what :func:`~ste_lightning.functional.products.binary.one_bit_product` returns.

    Equal to it within rounding. Args: as there, with an input map and a rule that
    :func:`fits_an_operator`.
    """
    rule, g = spec.input_rule, spec.geometry
    assert spec.input_map is not None
    assert rule is not None
    place: list[Any] = [[], [], [], 1, 0.0]
    if g is not None:
        place = [list(g.stride), list(g.padding), list(g.dilation), g.groups, g.pad_value]
    y: Tensor = _Compiled.apply(  # type: ignore[no-untyped-call]
        x,
        weight,
        spec.input_map,
        rule.name,
        _numbers(rule),
        spec.weight_rule.name,
        _numbers(spec.weight_rule),
        *place,
        _dtype_of(weight, 0.0 if g is None else g.pad_value),
    )
    shape = (-1, *[1] * (0 if g is None else weight.dim() - 2))
    if scale is not None:
        y = y * (scale.reshape(shape) if scale.numel() > 1 else scale)
    return y if bias is None else y + bias.view(shape)
