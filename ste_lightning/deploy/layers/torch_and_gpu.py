"""A packed layer's result without the CPU's kernels: in torch operators, on CUDA by Triton.

The integers are the same, and scale and bias are applied to them in the same order, so the
results are equal in every bit. Layers of float inputs are the exception: their sums of floats
depend on the order of the terms, as everywhere.
"""

from __future__ import annotations

import functools
import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ste_lightning.deploy.layers.bit_planes import to_codes
from ste_lightning.deploy.layers.input_quantizers import (
    BinaryInput,
    LevelsInput,
    TokenInput,
)
from ste_lightning.deploy.layers.packed_layer import PackedLayer
from ste_lightning.kernels import default_format

if TYPE_CHECKING:
    from ste_lightning.kernels.gemm.float_rows import FloatInputWeights
    from ste_lightning.kernels.gpu import DeviceWeights

__all__ = ["Placed", "computed", "placed"]


@dataclass(frozen=True)
class Placed:
    """What is derived once from a layer's buffers on their device.

    Attributes:
        words: weights for the GPU's kernels, where there are any.
        scale, shift: of the integer sums, one per output.
        values: the float weights, kept on the CPU for convolutions of float inputs.
        packed: weights that compiled code decodes, for linear layers of float inputs.
    """

    words: DeviceWeights | None
    scale: Tensor
    shift: Tensor
    values: Tensor | None
    packed: FloatInputWeights | None


@functools.cache
def has_triton() -> bool:
    """Return whether Triton is installed."""
    return importlib.util.find_spec("triton") is not None


def placed(layer: PackedLayer) -> Placed:
    """Return what calls on the layer's device need, derived once."""
    found: Placed = layer.derived("placed", lambda: _place(layer))
    return found


def _place(layer: PackedLayer) -> Placed:
    device = layer.weight_bits.device
    outputs = layer.shape[0]
    scale, shift = layer.result_scale(), layer.bias
    words = values = packed = None
    if device.type == "cuda" and has_triton() and _is_matrix_product(layer):
        from ste_lightning.kernels import gpu

        codes = to_codes(layer.weight_bits, layer.weight_codes.bits, layer.shape)
        words = gpu.on_device(layer.weight_bits, codes.flatten(1), layer.weight_codes)
    elif device.type == "cpu" and _decodes(layer):
        from ste_lightning.kernels.gemm.float_rows import prepare_for_floats

        codes = to_codes(layer.weight_bits, layer.weight_codes.bits, layer.shape)
        factor = torch.ones(outputs) if scale is None else scale
        added = torch.zeros(outputs) if shift is None else shift
        packed = prepare_for_floats(codes, layer.weight_codes, factor, added)
    elif device.type == "cpu" and not layer.sums_integers:
        values = layer.float_weight()
    return Placed(
        words,
        torch.ones(outputs, device=device) if scale is None else scale,
        torch.zeros(outputs, device=device) if shift is None else shift,
        values,
        packed,
    )


def _decodes(layer: PackedLayer) -> bool:
    """Return whether compiled code multiplies floats with the packed weights as they are."""
    linear = layer.has_rows and len(layer.shape) == 2 and layer.input.codes is None
    return linear and layer.scales <= 1 and default_format() != "torch"


def _is_matrix_product(layer: PackedLayer) -> bool:
    """Return whether the layer multiplies rows of integers, or of floats, with one matrix."""
    if layer.groups > 1 or not layer.has_rows or layer.scales > 1:
        return False
    return len(layer.shape) == 2 or layer.sums_integers


def computed(layer: PackedLayer, x: Tensor, **options: Any) -> Tensor:
    """Return ``layer(x)``, in the dtype of ``x``.

    Args:
        layer: a packed layer.
        x: its input, on the layer's device.
        options: for the layer's ``product``.
    """
    quantizer = layer.input
    if not layer.sums_integers:
        return _floats(layer, layer.quantized_input(x), options)
    if isinstance(quantizer, TokenInput) and layer.channel_axis(x) == x.dim() - 1:
        codes, token = quantizer.encode_tokens(x.float())
        y = _scaled(layer, codes, bias=False) * token
        return (y if layer.bias is None else y + layer.bias).to(x.dtype)
    if isinstance(quantizer, (BinaryInput, LevelsInput)):
        codes = quantizer.encode(x, layer.channel_axis(x))
        return _scaled(layer, codes, **options).to(x.dtype)
    return _floats(layer, layer.quantized_input(x), options)


def _floats(layer: PackedLayer, x: Tensor, options: dict[str, Any]) -> Tensor:
    """Return the product of a float input."""
    found = placed(layer)
    if found.words is not None and len(layer.shape) == 2 and x.dtype != torch.float64:
        from ste_lightning.kernels import gpu

        rows = x.reshape(-1, layer.shape[1])
        if len(rows) <= gpu.FEW_ROWS:
            y = gpu.multiply_floats(rows, found.words, found.scale, found.shift)
            return y.view(*x.shape[:-1], layer.shape[0]).to(x.dtype)
    differentiated = torch.is_grad_enabled() and x.requires_grad
    if found.packed is not None and x.dtype != torch.float64 and not differentiated:
        from ste_lightning.kernels.gemm.float_rows import multiply_floats

        rows = x.detach().reshape(-1, layer.shape[1]).float()
        return multiply_floats(rows, found.packed).view(*x.shape[:-1], layer.shape[0]).to(x.dtype)
    weight = layer.float_weight() if found.values is None else found.values
    bias = None if layer.bias is None else layer.bias.to(x)
    pad = (layer.pad_level() or 0.0) * layer.input_scale()
    return layer.product(x, weight.to(x), bias, pad, **options)


def _scaled(layer: PackedLayer, codes: Tensor, bias: bool = True, **options: Any) -> Tensor:
    """Return the integer sums, scaled and shifted, as float32."""
    found = placed(layer)
    shift = found.shift if bias else torch.zeros_like(found.shift)
    if found.words is not None:
        y = by_words(layer, found.words, codes, found.scale, shift)
        if y is not None:
            return y
    kind = layer.input.codes
    assert kind is not None
    # 24 bits of float32 hold most sums; on the way there, any order of terms is exact.
    dtype = torch.float32 if layer.largest_sum() < 1 << 24 else torch.float64
    pad = layer.pad_level() or 0.0
    levels = codes.to(dtype) * kind.step + kind.offset
    sums = layer.product(levels, layer.integer_weight().to(dtype), None, pad, **options)
    if pad == int(pad):
        sums = sums.round()  # some convolutions compute in transformed, inexact numbers
    shape = [-1, *[1] * (len(layer.shape) - 2)]
    return sums.float() * found.scale.view(shape) + shift.view(shape)


def by_words(
    layer: PackedLayer, words: DeviceWeights, codes: Tensor, scale: Tensor, shift: Tensor
) -> Tensor | None:
    """Return what :func:`_scaled` returns by the GPU's kernels, ``None`` where they cannot.

    Args:
        layer: a linear layer, or a convolution without groups.
        words: its weights.
        codes: the input's codes.
        scale, shift: of the integer sums.
    """
    from ste_lightning.kernels import gpu

    kind, pad = layer.input.codes, layer.pad_level() or 0.0
    assert kind is not None
    low, high = kind.offset, kind.offset + kind.step * (2**kind.bits - 1)
    center = high - 127 if high > 127 else min(low + 128, 0)  # what makes them fit into int8
    mode = getattr(layer, "padding_mode", "zeros")
    if mode != "zeros" or pad != int(pad) or not -128 <= int(pad) - center <= 127:
        return None
    values = (codes.to(torch.int16) * kind.step + (kind.offset - center)).to(torch.int8)
    if len(layer.shape) == 2:
        rows = values.reshape(-1, layer.shape[1])
        y = gpu.multiply(rows, words, center, scale, shift)
        return y.view(*codes.shape[:-1], layer.shape[0])
    conv: Any = layer
    geometry = conv.geometry
    padded = conv.padded(values, pad - center)
    read = gpu.patches(padded, geometry.kernel, geometry.stride, geometry.dilation)
    y = gpu.multiply(read.flatten(0, -2), words, center, scale, shift)
    return y.view(*read.shape[:-1], layer.shape[0]).movedim(-1, 1)
