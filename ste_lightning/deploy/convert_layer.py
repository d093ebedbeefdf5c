"""From a trained quantized layer to a packed one."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from ste_lightning.deploy.bits import codes_of, to_bits
from ste_lightning.deploy.inputs import BinaryInput, FloatInput, Input, TokenInput
from ste_lightning.deploy.layers import PackedConv, PackedLayer, PackedLinear
from ste_lightning.deploy.staircase import is_static, staircase_input
from ste_lightning.errors import ConfigurationError
from ste_lightning.kernels import Codes, Geometry
from ste_lightning.layers import (
    QuantConv1d,
    QuantConv2d,
    QuantConv3d,
    QuantizedLayer,
    QuantLinear,
)
from ste_lightning.quantizers import Quantizer, Sign, Step

__all__ = ["packed_layer"]

_CONVOLUTIONS = (QuantConv1d, QuantConv2d, QuantConv3d)


def packed_layer(layer: QuantizedLayer, name: str) -> PackedLayer:
    """Return the packed form of a quantized layer, which stays untouched.

    Args:
        layer: a quantized linear layer or convolution with quantized weights.
        name: the layer's name, for messages.

    Raises:
        ConfigurationError: for a layer or quantizer that has no packed form, with the reason.
    """
    try:
        return _packed(layer)
    except ConfigurationError as error:
        raise ConfigurationError(f"{name} cannot be packed: {error}") from error


@torch.no_grad()
def _packed(layer: Any) -> PackedLayer:
    if not isinstance(layer, (QuantLinear, *_CONVOLUTIONS)):
        raise ConfigurationError(
            f"{type(layer).__name__} has no packed form; leave it in float (null in the policy)"
        )
    codes, weight, scale = _weights(layer)
    channels = layer.weight.shape[1] * getattr(layer, "groups", 1)
    quantizer = layer.input_quantizer if layer.input_quantization else None
    common: dict[str, Any] = {
        "input": _input(quantizer, channels),
        "weight": weight,
        "shape": tuple(layer.weight.shape),
        "scaled": scale is not None,
        "bias": layer.bias is not None,
    }
    packed: PackedLayer
    if isinstance(layer, QuantLinear):
        packed = PackedLinear(**common)
    else:
        packed = PackedConv(
            **common,
            groups=layer.groups,
            geometry=_geometry(layer),
            pad_value=layer.pad_value,
            padding_mode=layer.padding_mode,
        )
    packed.weight_bits.copy_(to_bits(codes, weight.bits))
    if packed.scale is not None and scale is not None:
        packed.scale.copy_(scale)
    if packed.bias is not None and layer.bias is not None:
        packed.bias.copy_(layer.bias)
    return packed


def _weights(layer: QuantizedLayer) -> tuple[Tensor, Codes, Tensor | None]:
    """Return the weights' codes, what they stand for, and the scale per output (None: 1)."""
    quantizer = layer.weight_quantizer if layer.weight_quantization else None
    if quantizer is None:
        raise ConfigurationError("its weights are float; give it a weight quantizer or none at all")
    quantizer = _frozen(quantizer)
    latent = layer.weight.detach().cpu()
    latent = latent if latent.dtype == torch.float64 else latent.float()
    levels, scale = quantizer.integer_levels(latent)
    full = scale.expand(latent.shape).flatten(1) if scale.numel() > 1 else scale.reshape(1, 1)
    if not bool((full == full[:, :1]).all()):
        raise ConfigurationError(
            "its weights have more than one scale per output; use one per tensor or channel"
        )
    codes, weight = codes_of(levels, float(quantizer.bits))
    per_output = full[:, 0].float().expand(len(latent)).clone()
    return codes, weight, None if bool((per_output == 1).all()) else per_output


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
    flat = layer._reversed_padding_repeated_twice
    padding = tuple((flat[i], flat[i + 1]) for i in range(0, len(flat), 2))[::-1]
    return Geometry(tuple(layer.kernel_size), tuple(layer.stride), padding, tuple(layer.dilation))
