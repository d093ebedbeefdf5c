"""What packing did, layer by layer, and how fast the result is."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ste_lightning.deploy.graph.network import PackedNetwork
from ste_lightning.deploy.layers.embedding import PackedEmbedding
from ste_lightning.deploy.layers.input_quantizers import TokenInput
from ste_lightning.deploy.layers.packed_layer import PackedLayer, packed_layers
from ste_lightning.deploy.layers.transposed import PackedConvTranspose

__all__ = ["LayerRow", "interleaved_latency", "layer_rows", "parts"]


@dataclass(frozen=True)
class LayerRow:
    """One layer with weights.

    Attributes:
        name, kind: its name and class.
        bits: bits of weights x inputs, such as ``"1x1"`` or ``"float"``.
        bytes_float: bytes of its weights and other tensors as float32.
        bytes_packed: bytes in the packed network.
        binary, integer, float: multiply-accumulates per sample: of bits (bit pairs of a product
            of more bits count as that many), of integers times floats, of floats.
    """

    name: str
    kind: str
    bits: str
    bytes_float: int
    bytes_packed: int
    binary: int
    integer: int
    float: int


def layer_rows(network: PackedNetwork, example: Tensor) -> list[LayerRow]:
    """Return a row for every layer with tensors.

    Args:
        network: a packed network of one input.
        example: a batch of inputs, from which the numbers of products are counted.
    """
    positions: dict[nn.Module, int] = {}

    def count(module: nn.Module, args: Any, output: Tensor) -> None:
        if isinstance(module, PackedConvTranspose):  # every input meets every kernel position
            size, outputs = args[0].numel() // len(args[0]), module.shape[0]
            positions[module] = size * outputs // (module.shape[1] * module.groups)
            return
        if isinstance(output, Tensor):
            positions[module] = positions.get(module, 0) + output[0].numel()

    named = [
        (".".join(filter(None, (name, part_name))), part)
        for name in network.layer_names()
        for part_name, part in parts(network.layer(name))
    ]
    hooks = [part.register_forward_hook(count) for _, part in named]
    try:
        network(example[:1])
    finally:
        for hook in hooks:
            hook.remove()
    return [
        _row(name, part, positions.get(part, 0)) for name, part in named if len(part.state_dict())
    ]


def parts(layer: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return what a layer of a packed network consists of, by name: itself, or its packed parts."""
    return [*packed_layers(layer).items()] or [("", layer)]


def _row(name: str, layer: nn.Module, outputs: int) -> LayerRow:
    stored = sum(t.numel() * t.element_size() for t in layer.state_dict().values())
    if not isinstance(layer, PackedLayer):
        weight = getattr(layer, "weight", None)
        products = 0
        if isinstance(weight, Tensor) and weight.dim() > 1 and not isinstance(layer, nn.Embedding):
            products = outputs * weight[0].numel()
        return LayerRow(name, type(layer).__name__, "float", stored, stored, 0, 0, products)
    terms = torch.Size(layer.shape[1:]).numel()
    others = stored - layer.weight_bits.numel()
    before = 4 * torch.Size(layer.shape).numel() + others
    products = 0 if isinstance(layer, PackedEmbedding) else outputs * terms
    bits = layer.weight_codes.bits
    kind = type(layer).__name__
    if layer.input.codes is None:
        return LayerRow(name, kind, f"{bits}xfloat", before, stored, 0, products, 0)
    input_bits = layer.input.codes.bits
    if not layer.sums_integers:
        label = f"{bits}x{input_bits} in groups"
        return LayerRow(name, kind, label, before, stored, 0, products, 0)
    pairs = products * bits * input_bits
    mark = " per token" if isinstance(layer.input, TokenInput) else ""
    return LayerRow(name, kind, f"{bits}x{input_bits}{mark}", before, stored, pairs, 0, 0)


def interleaved_latency(
    functions: Sequence[Callable[[], object]], seconds: float = 1.0
) -> list[float]:
    """Return the median wall time of a call of each function, in seconds.

    The functions take turns, so that whatever else the machine does hits all of them.

    Args:
        functions: what to time.
        seconds: for how long, all together.
    """
    for function in functions:
        function()
    times: list[list[float]] = [[] for _ in functions]
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[0]) < 5:
        for function, found in zip(functions, times, strict=True):
            start = time.perf_counter()
            function()
            found.append(time.perf_counter() - start)
    return [statistics.median(found) for found in times]
