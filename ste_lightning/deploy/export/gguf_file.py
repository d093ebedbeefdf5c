"""The weights of a packed language model as GGUF, in blocks of ternary, 4-bit and 8-bit numbers.

Levels are stored as they are. Where their scales are exact in float16 and whole blocks share one,
they are the blocks' scales; elsewhere blocks have scale 1, and the scales are a tensor of their
own. So the numbers that a reader gets are the packed network's, in every bit.

Source of the block layouts: llama.cpp's gguf-py, whose writer and reader are used.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ste_lightning.deploy.export.order import Order, needs
from ste_lightning.deploy.export.weights_file import other_tensors
from ste_lightning.deploy.graph.network import PackedNetwork
from ste_lightning.deploy.layers.embedding import PackedEmbedding
from ste_lightning.deploy.layers.linear_and_conv import PackedLinear
from ste_lightning.deploy.layers.packed_layer import PackedLayer, packed_layers, scaled_weight
from ste_lightning.errors import ConfigurationError

__all__ = ["read_gguf", "write"]

_ARCHITECTURE = "ste_lightning"
_LAYERS = f"{_ARCHITECTURE}.layers"


@dataclass(frozen=True)
class _Kind:
    """A type of blocks.

    Attributes:
        low, high: the levels that it holds.
        block: how many of them share a scale.
    """

    low: int
    high: int
    block: int


_KINDS = {  # the smallest first; TQ2_0, which takes a fifth more, computes faster in llama.cpp
    "TQ1_0": _Kind(-1, 1, 256),
    "TQ2_0": _Kind(-1, 1, 256),
    "Q4_0": _Kind(-8, 7, 32),
    "Q8_0": _Kind(-128, 127, 32),
}


def write(network: PackedNetwork, path: Path, order: Order, ternary: str = "TQ1_0") -> None:
    """Write every tensor, and read the packed ones back.

    Args:
        network: whose packed layers are linear ones and embeddings.
        path: of the file.
        order: not used: the weights depend on no sizes.
        ternary: the type of ternary (and one-bit) weights: ``"TQ1_0"`` or ``"TQ2_0"``.

    Raises:
        ConfigurationError: without the package gguf; for a packed convolution, and for rows that no
            number of blocks fills, by name.
    """
    needs("gguf")
    import gguf

    packed = packed_layers(network.module)
    kinds = {name: _kind(name, layer, ternary) for name, layer in packed.items()}
    writer = gguf.GGUFWriter(path, _ARCHITECTURE)
    described: dict[str, Any] = {}
    for name, layer in packed.items():
        described[name] = {"weight": kinds[name], "input": layer.input.spec()}
        _add(writer, gguf, name, layer, kinds[name])
    for name, tensor in other_tensors(network).items():
        writer.add_tensor(name, np.atleast_1d(tensor.detach().numpy()))
    writer.add_string(_LAYERS, json.dumps(described))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = read_gguf(path)
    for name, layer in packed.items():
        if not torch.equal(found[f"{name}.weight"], layer.float_weight()):
            raise ConfigurationError(f"the weights of {name!r} do not survive {kinds[name]}.")


def _kind(name: str, layer: PackedLayer, ternary: str) -> str:
    """Return the smallest type that holds a layer's weights."""
    if not isinstance(layer, (PackedLinear, PackedEmbedding)):
        raise ConfigurationError(
            f"format='gguf' has no {type(layer).__name__} (layer {name!r}): it is for linear "
            "layers and embeddings; use 'onnx' or 'c'."
        )
    levels, inputs = layer.integer_weight(), layer.shape[1]
    for kind in dict.fromkeys([ternary, "Q4_0", "Q8_0"]):
        known = _KINDS[kind]
        fits = known.low <= int(levels.min()) and int(levels.max()) <= known.high
        if fits and inputs % known.block == 0:
            return kind
    raise ConfigurationError(
        f"format='gguf' cannot hold the weights of {name!r}: rows of {inputs} levels "
        f"{int(levels.min())}..{int(levels.max())}; use rows of a multiple of 32 and levels "
        "-128..127."
    )


def _add(writer: Any, gguf: Any, name: str, layer: PackedLayer, kind: str) -> None:
    levels = layer.integer_weight().numpy().astype(np.int8)
    scales = _block_scales(layer, _KINDS[kind].block)
    if scales is None and layer.scale is not None:
        writer.add_tensor(f"{name}.scale", layer.scale.float().numpy())
    if layer.bias is not None:
        writer.add_tensor(f"{name}.bias", layer.bias.float().numpy())
    blocks = _blocks(gguf, levels, kind, scales)
    kinds = gguf.GGMLQuantizationType
    writer.add_tensor(f"{name}.weight", blocks, raw_dtype=kinds[kind])


def _block_scales(layer: PackedLayer, block: int) -> NDArray[np.float16] | None:
    """Return (rows, blocks) scales, ``None`` where blocks cannot have them exactly."""
    if layer.scale is None:
        return None
    rows, inputs = layer.shape
    groups = layer.scale.detach().float().view(rows, -1)
    length = inputs // groups.shape[1]
    if length % block or not torch.equal(groups.half().float(), groups):
        return None
    found: NDArray[np.float16] = groups.half().repeat_interleave(length // block, dim=1).numpy()
    return found


def _blocks(
    gguf: Any, levels: NDArray[np.int8], kind: str, scales: NDArray[np.float16] | None
) -> NDArray[np.uint8]:
    """Return the bytes of each row."""
    rows = len(levels)
    split = levels.reshape(rows, -1, _KINDS[kind].block)
    if scales is None:
        scales = np.ones(split.shape[:2], np.float16)
    worth = scales[..., None].view(np.uint8)
    parts: list[NDArray[np.uint8]]
    if kind == "Q8_0":
        parts = [worth, split.view(np.uint8)]
    elif kind == "Q4_0":  # gguf's own quantizer would choose other levels
        codes = (split + 8).astype(np.uint8).reshape(rows, -1, 2, 16)
        parts = [worth, codes[..., 0, :] | codes[..., 1, :] << np.uint8(4)]
    else:
        type_ = gguf.GGMLQuantizationType[kind]
        made = gguf.quants.quantize(split.astype(np.float32), type_)
        parts = [made[..., :-2], worth]
    return np.concatenate(parts, axis=-1).reshape(rows, -1)


def read_gguf(path: str | Path) -> dict[str, Tensor]:
    """Return the tensors of a GGUF file that :func:`.export` wrote, packed weights as floats.

    Args:
        path: the file.

    Returns:
        The tensors by their names in the trained network; ``NAME.weight`` of a packed layer is its
        levels times their scales, float32.
    """
    needs("gguf")
    import gguf

    reader = gguf.GGUFReader(path)
    layers = json.loads(bytes(reader.fields[_LAYERS].parts[-1]).decode())
    found = {
        tensor.name: torch.from_numpy(
            np.array(
                gguf.quants.dequantize(tensor.data, tensor.tensor_type)
                if tensor.data.dtype == np.uint8
                else tensor.data
            )
        )
        for tensor in reader.tensors
    }
    for name in layers:
        scale = found.pop(f"{name}.scale", None)
        if scale is not None:
            found[f"{name}.weight"] = scaled_weight(found[f"{name}.weight"], scale)
    return found
