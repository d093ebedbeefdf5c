"""The weights of a packed network as plain integers."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ste_lightning.deploy.export.order import Order
from ste_lightning.deploy.file import tensor_file
from ste_lightning.deploy.graph.network import PackedNetwork
from ste_lightning.deploy.layers.packed_layer import PackedLayer, fits_signed, packed_layers
from ste_lightning.deploy.layers.transposed import PackedConvTranspose, outputs_first

__all__ = ["integer_state_dict", "other_tensors", "write"]


def integer_state_dict(network: PackedNetwork) -> dict[str, Tensor]:
    """Return every weight as plain tensors: integers of the packed layers as int8 (or int16).

    Keys are those of the trained network: ``NAME.weight`` (integers), ``NAME.scale``,
    ``NAME.bias``, and whatever float layers have; attention has ``NAME.q_proj.weight``,
    ``k_proj``, ``v_proj`` and ``out_proj``.
    """
    found: dict[str, Tensor] = {}
    for name, layer in packed_layers(network.module).items():
        state = layer.state_dict()
        del state["weight_bits"]
        found[f"{name}.weight"] = _integers(layer)
        found |= {f"{name}.{key}": value for key, value in state.items()}
    return found | other_tensors(network)


def other_tensors(network: PackedNetwork) -> dict[str, Tensor]:
    """Return the tensors that no packed layer holds, by name."""
    inside = tuple(f"{name}." for name in packed_layers(network.module))
    state = network.module.state_dict().items()
    return {key: value for key, value in state if not key.startswith(inside)}


def _integers(layer: PackedLayer) -> Tensor:
    """Return the integer weights in the layout of the torch layer."""
    weight = layer.integer_weight()
    if isinstance(layer, PackedConvTranspose):
        weight = outputs_first(weight, layer.groups).contiguous()
    return weight.to(torch.int8) if fits_signed(weight, 8) else weight


def write(network: PackedNetwork, path: Path, order: Order) -> None:
    """Write the weights as safetensors."""
    tensor_file.write(path, integer_state_dict(network), {})
