"""The weights of a packed network as plain integers."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ste_lightning.deploy.export.order import Order
from ste_lightning.deploy.file import tensor_file
from ste_lightning.deploy.graph.network import PackedNetwork
from ste_lightning.deploy.layers.packed_layer import PackedLayer
from ste_lightning.deploy.layers.transposed import PackedConvTranspose, outputs_first

__all__ = ["integer_state_dict", "write"]


def integer_state_dict(network: PackedNetwork) -> dict[str, Tensor]:
    """Return every weight as plain tensors: integers of the packed layers as int8 (or int16).

    Keys are those of the trained network: ``NAME.weight`` (integers), ``NAME.scale``,
    ``NAME.bias``, and whatever float layers have; attention has ``NAME.q_proj.weight``,
    ``k_proj``, ``v_proj`` and ``out_proj``.
    """
    found: dict[str, Tensor] = {}
    packed = {name: m for name, m in network.module.named_modules() if isinstance(m, PackedLayer)}
    for name, layer in packed.items():
        state = layer.state_dict()
        del state["weight_bits"]
        found[f"{name}.weight"] = _integers(layer)
        found |= {f"{name}.{key}": value for key, value in state.items()}
    inside = tuple(f"{name}." for name in packed)
    others = network.module.state_dict().items()
    found |= {key: value for key, value in others if not key.startswith(inside)}
    return found


def _integers(layer: PackedLayer) -> Tensor:
    """Return the integer weights in the layout of the torch layer."""
    weight = layer.integer_weight()
    if isinstance(layer, PackedConvTranspose):
        weight = outputs_first(weight, layer.groups).contiguous()
    small = int(weight.min()) >= -128 and int(weight.max()) < 128
    return weight.to(torch.int8) if small else weight


def write(network: PackedNetwork, path: Path, order: Order) -> None:
    """Write the weights as safetensors."""
    tensor_file.write(path, integer_state_dict(network), {})
