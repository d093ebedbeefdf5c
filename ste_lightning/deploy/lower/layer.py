"""From a trained quantized layer to a packed one."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ste_lightning.deploy.layers.attention import PackedAttention
from ste_lightning.deploy.layers.bit_planes import codes_of, to_bits
from ste_lightning.deploy.layers.embedding import PackedEmbedding
from ste_lightning.deploy.layers.input_quantizers import BinaryInput, FloatInput, Input, TokenInput
from ste_lightning.deploy.layers.linear_and_conv import PackedConv, PackedLinear
from ste_lightning.deploy.layers.packed_layer import PackedLayer, scaled_weight
from ste_lightning.deploy.layers.transposed import PackedConvTranspose, outputs_first
from ste_lightning.deploy.lower.input_thresholds import is_static, staircase_input
from ste_lightning.errors import ConfigurationError
from ste_lightning.kernels import Codes, Geometry
from ste_lightning.layers import (
    QuantConvTranspose1d,
    QuantConvTranspose2d,
    QuantEmbedding,
    QuantizedLayer,
    QuantMultiheadAttention,
)
from ste_lightning.layers.linear import QuantRowLinear
from ste_lightning.quantizers import Quantizer, Sign, Step

__all__ = ["Weights", "packed_from", "packed_layer"]

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (QuantConvTranspose1d, QuantConvTranspose2d)


def packed_layer(layer: QuantizedLayer, name: str) -> nn.Module:
    """Return the packed form of a quantized layer, which stays untouched.

    Args:
        layer: a quantized layer with quantized weights.
        name: the layer's name, for messages.

    Raises:
        ConfigurationError: for a layer or quantizer that has no packed form, that has seen no
            data, or whose weights or scales are not finite, with the reason.
    """
    try:
        packed = _packed(layer)
    except ConfigurationError as error:
        raise ConfigurationError(f"{name} cannot be packed: {error}") from error
    for part in packed.modules():
        if isinstance(part, PackedLayer):
            part.name = name
    return packed


@torch.no_grad()
def _packed(layer: Any) -> nn.Module:
    layer.check()
    if isinstance(layer, QuantMultiheadAttention):
        return _attention(layer)
    weights = _weights(layer)
    if isinstance(layer, QuantEmbedding):
        return _embedding(layer, weights)
    channels = weights.codes.shape[1] * getattr(layer, "groups", 1)
    input = _input(layer.input_quantizer if layer.input_quantization else None, channels)
    return packed_from(layer, input, weights)


def packed_from(layer: Any, input: Input, weights: Weights) -> PackedLayer:
    """Return the packed form of a linear layer or convolution, quantized or not.

    Args:
        layer: where sizes, bias and padding are read.
        input: how the input is quantized.
        weights: the packed weights.

    Raises:
        ConfigurationError: for another kind of layer.
    """
    packed: PackedLayer
    common: dict[str, Any] = {
        "input": input,
        "weight": weights.kind,
        "shape": tuple(weights.codes.shape),
        "scaled": weights.scales,
        "bias": layer.bias is not None,
    }
    if isinstance(layer, (nn.Linear, QuantRowLinear)):
        packed = PackedLinear(**common)
    elif isinstance(layer, _TRANSPOSED):
        common |= {"groups": layer.groups, "geometry": _geometry(layer)}
        packed = PackedConvTranspose(**common, output_padding=tuple(layer.output_padding))
    elif isinstance(layer, _CONVOLUTIONS):
        common |= {"groups": layer.groups, "geometry": _geometry(layer)}
        common |= {"pad_value": getattr(layer, "pad_value", 0.0)}
        packed = PackedConv(**common, padding_mode=layer.padding_mode)
    else:
        raise ConfigurationError(
            f"{type(layer).__name__} has no packed form; leave it in float (null in the policy)"
        )
    return _filled(packed, weights, layer.bias)


@dataclass(frozen=True)
class Weights:
    """Codes of weights, outputs first; what they stand for; their scales, ``None`` for 1.

    Scales are (outputs,), or (outputs, groups of the weights of an output).
    """

    codes: Tensor
    kind: Codes
    scale: Tensor | None

    @property
    def scales(self) -> int:
        """How many scales an output has."""
        return 0 if self.scale is None else self.scale[0].numel()


def _filled(packed: PackedLayer, weights: Weights, bias: Tensor | None) -> PackedLayer:
    """Return the layer with its buffers' values."""
    packed.weight_bits.copy_(to_bits(weights.codes, weights.kind.bits))
    if packed.scale is not None and weights.scale is not None:
        packed.scale.copy_(weights.scale)
    if packed.bias is not None and bias is not None:
        packed.bias.copy_(bias)
    return packed


def _embedding(layer: QuantEmbedding, weights: Weights) -> PackedEmbedding:
    scale = weights.scale
    if layer.max_norm is not None:  # torch shrinks the rows that it looks up
        rows = weights.codes.float() * weights.kind.step + weights.kind.offset
        factor = torch.ones(len(rows)) if scale is None else scale
        norm = scaled_weight(rows, factor).norm(layer.norm_type, dim=1)
        shrunk = torch.where(norm > layer.max_norm, layer.max_norm / (norm + 1e-7), 1.0)
        scale = (factor.view(len(rows), -1) * shrunk.view(-1, 1)).view(factor.shape)
    weights = Weights(weights.codes, weights.kind, scale)
    packed = PackedEmbedding(weights.kind, tuple(weights.codes.shape), weights.scales)
    _filled(packed, weights, None)
    return packed


def _attention(layer: QuantMultiheadAttention) -> PackedAttention:
    whole = _weights(layer)
    quantizer = layer.input_quantizer if layer.input_quantization else None
    width = layer.embed_dim
    parts: list[PackedLinear] = []
    for first in range(0, 3 * width, width):
        rows = slice(first, first + width)
        scale = None if whole.scale is None else whole.scale[rows]
        bias = None if layer.in_proj_bias is None else layer.in_proj_bias[rows]
        part = PackedLinear(
            _input(quantizer, width), whole.kind, (width, width),
            scaled=whole.scales, bias=bias is not None,
        )  # fmt: skip
        _filled(part, Weights(whole.codes[rows], whole.kind, scale), bias)
        parts.append(part)
    output = _packed(layer.out_proj)
    assert isinstance(output, PackedLinear)
    scores = layer.score_quantizer if layer.input_quantization else None
    return PackedAttention(
        layer.num_heads,
        layer.batch_first,
        (parts[0], parts[1], parts[2], output),
        _input(scores, 1),
    )


def _weights(layer: QuantizedLayer) -> Weights:
    quantizer = layer.weight_quantizer if layer.weight_quantization else None
    if quantizer is None:
        raise ConfigurationError("its weights are float; give it a weight quantizer or none at all")
    quantizer = _frozen(quantizer)
    latent = layer.latent_weight().detach().cpu()
    latent = latent if latent.dtype == torch.float64 else latent.float()
    levels, scale = quantizer.integer_levels(latent)
    if isinstance(layer, _TRANSPOSED):
        levels = outputs_first(levels, layer.groups)
        scale = outputs_first(scale.expand(latent.shape), layer.groups)
    if isinstance(layer, QuantRowLinear):
        levels, scale = levels.t(), scale.expand(latent.shape).t()
    full = scale.expand(levels.shape).flatten(1) if scale.numel() > 1 else scale.reshape(1, 1)
    scale = full[:, :: _run_length(full)].float().squeeze(1)
    scale = scale.expand(len(levels), *scale.shape[1:]).clone()
    codes, kind = codes_of(levels, float(quantizer.bits))
    return Weights(codes, kind, None if bool((scale == 1).all()) else scale)


def _run_length(scales: Tensor) -> int:
    """Return how many weights of an output share a scale, one after another.

    Args:
        scales: (outputs, weights of one).

    Raises:
        ConfigurationError: where each weight has its own.
    """
    count = scales.shape[1]
    changes = (scales[:, 1:] != scales[:, :-1]).any(0).nonzero().flatten() + 1
    length = math.gcd(count, *changes.tolist())
    if length == 1 < count:
        raise ConfigurationError(
            "its weights have scales of their own; let groups of at least 2 share one"
        )
    return length


def _frozen(quantizer: nn.Module) -> Any:
    """Return a copy on the CPU in eval mode; refuse one that does not know its levels."""
    if not isinstance(quantizer, Quantizer):
        raise ConfigurationError(
            f"its quantizer {type(quantizer).__name__} has no integer_levels(x); derive it from "
            "ste_lightning.quantizers.Quantizer"
        )
    if float(quantizer.strength) < 1:
        raise ConfigurationError(
            f"its quantizer acts with strength {float(quantizer.strength):g}; finish the schedule"
        )
    return copy.deepcopy(quantizer).cpu().eval()


def _input(quantizer: nn.Module | None, channels: int) -> Input:
    if quantizer is None:
        return FloatInput()
    frozen = _frozen(quantizer)
    if type(frozen) is Sign and frozen.scale == "none":
        return BinaryInput("sign")
    if type(frozen) is Step:
        return BinaryInput("step")
    if frozen.map_name == "token":
        return TokenInput(int(frozen.bits))
    if not is_static(frozen):
        raise ConfigurationError(
            f"the scale of its input quantizer {type(frozen).__name__} depends on the input; use "
            "a fixed or learned scale"
        )
    return staircase_input(frozen, channels)


def _geometry(layer: Any) -> Geometry:
    if isinstance(layer, _TRANSPOSED):
        padding = tuple((int(p), int(p)) for p in layer.padding)
    else:
        flat = layer._reversed_padding_repeated_twice
        padding = tuple((flat[i], flat[i + 1]) for i in range(0, len(flat), 2))[::-1]
    return Geometry(tuple(layer.kernel_size), tuple(layer.stride), padding, tuple(layer.dilation))
