"""How float layers keep their weights in a packed network."""

from __future__ import annotations

import torch
from torch import nn

from ste_lightning.deploy.layers.input_quantizers import FloatInput
from ste_lightning.deploy.layers.packed_layer import PackedLayer
from ste_lightning.deploy.lower.layer import Weights, packed_from
from ste_lightning.kernels import Codes

__all__ = ["PRECISIONS", "store_floats"]

PRECISIONS = ("float32", "float16", "int8")


@torch.no_grad()
def store_floats(layer: nn.Module, precision: str) -> nn.Module:
    """Return a float layer with its weights in ``precision``; other layers as they are."""
    if precision == "float32" or isinstance(layer, PackedLayer):
        return layer
    if precision == "int8" and isinstance(layer, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        return _int8(layer)
    if precision == "float16":
        for tensor in layer.parameters():
            tensor.copy_(tensor.half().to(tensor.dtype))
    return layer


def _int8(layer: nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d) -> PackedLayer:
    """Return the layer with weights round(w / s) in -127..127, s = max|w| / 127 per output."""
    weight = layer.weight.detach().float()
    largest = weight.flatten(1).abs().amax(1).clamp_min(1e-30)
    scale = largest / 127
    levels = (weight / scale.view(-1, *[1] * (weight.dim() - 1))).round()
    codes = (levels + 128).to(torch.uint8)
    return packed_from(layer, FloatInput(), Weights(codes, Codes(8, 1, -128), scale))
