"""Runs of packed convolutions as QLinearConv: bytes in, and the bytes that the next layer reads.

What lies between two layers, if it only clips or pools, becomes a clip of bytes or a pooling of
them. A single threshold makes the bytes 0 and 255, more make codes.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from ste_lightning.deploy.export.even_levels import even
from ste_lightning.deploy.export.onnx_inputs import Place, Quantizing
from ste_lightning.deploy.export.onnx_layout import channels_first, inputs_of
from ste_lightning.deploy.export.onnx_nodes import Nodes
from ste_lightning.deploy.export.requantized import Requantized, Sums, of_line, of_thresholds
from ste_lightning.deploy.fusion.requantize import emission_for, gives_whole_sums
from ste_lightning.deploy.layers.input_quantizers import BinaryInput, Input, LevelsInput
from ste_lightning.deploy.layers.linear_and_conv import PackedConv, PackedLinear
from ste_lightning.deploy.layers.packed_layer import PackedLayer, fits_signed

__all__ = ["Runs", "reads_bytes"]

_DEEP = 256  # input channels of large kernels, where products of windows are faster


def reads_bytes(layer: PackedLayer) -> bool:
    """Return whether a layer's sums are those of unsigned bytes with signed ones."""
    codes = layer.input.codes
    if not isinstance(layer, (PackedLinear, PackedConv)) or not layer.sums_integers:
        return False
    if codes is None:
        return False
    pad = float(layer.pad_level() or 0.0)
    fits = -256 < codes.offset <= 0 and codes.step * (2**codes.bits - 1) < 256
    whole = pad.is_integer() and 0 <= pad - codes.offset < 256
    return fits and whole and fits_signed(layer.integer_weight(), 8)


@dataclass(frozen=True)
class _Way:
    """From a layer's results to the layers that read them."""

    layer: PackedLayer
    low: float = -math.inf
    high: float = math.inf
    pooled: bool = False
    flat: bool = False
    results: tuple[str, ...] = ()
    clips: tuple[str, ...] = ()


class Runs:
    """The runs of a graph.

    Args:
        graph: what torch exported, with nodes that stand for layers.
        layers: the layers, by their results.
        rounded: whether codes of results next to a tie may differ by one.

    Attributes:
        bytes: results that are bytes.
        clips: results of nodes that have become part of a layer.
    """

    def __init__(
        self, graph: onnx.GraphProto, layers: Mapping[str, PackedLayer], rounded: bool
    ) -> None:
        self._layers, self._rounded = layers, rounded
        self._users: dict[str, list[Any]] = defaultdict(list)
        for node in graph.node:
            for name in inputs_of(node):
                self._users[name].append(node)
        self._returned = {value.name for value in graph.output}
        self.bytes, self.clips = set[str](), set[str]()

    def write(
        self, nodes: Nodes, layer: Any, bound: float | None, x: str, rank: int, y: str
    ) -> bool:
        """Add a convolution whose result ``y`` is bytes, if it can be one; return whether."""
        usual = isinstance(layer, PackedConv) and _quantizes(layer)
        if not usual or rank != len(layer.shape):
            return False
        if layer.groups == 1 and max(layer.geometry.kernel) > 1 and layer.shape[1] >= _DEEP:
            return False
        way = self._way(nodes, y)
        wide = x in self.bytes and isinstance(layer.input, BinaryInput)
        found = None if way is None else self._found(layer, way, wide)
        if way is None or found is None:
            return False
        requantized, zero, low, high = found
        quantizing = Quantizing(nodes, layer.input, bound, x in self.bytes)
        name, place = x, Place(x, rank, 1)
        if not wide or zero not in (0, 255):
            name, _ = quantizing.bytes(place.last(nodes) if x in nodes.last else place)
        if x in nodes.last:
            name = channels_first(nodes, name, rank)
        one, floats = nodes.numbers(1, np.float32), torch.from_numpy(requantized.scale)
        levels = nodes.levels(layer.integer_weight(), layer, requantized.multiple)
        given = [name, one, nodes.numbers(zero, np.uint8), levels, nodes.tensor(floats)]
        given += [nodes.tensor(torch.zeros(len(floats), dtype=torch.int8)), one]
        given += [nodes.numbers(0, np.uint8), nodes.tensor(torch.from_numpy(requantized.bias))]
        g = layer.geometry
        clips = low > 0 or high < 255
        made = nodes.add(
            "QLinearConv",
            given,
            "" if clips else y,
            kernel_shape=g.kernel,
            strides=g.stride,
            dilations=g.dilation,
            group=layer.groups,
            pads=[p[side] for side in (0, 1) for p in g.padding],
        )
        if low > 0:
            nodes.add("Clip", [made, *(nodes.numbers(v, np.uint8) for v in (low, high))], y)
        elif clips:
            nodes.add("Min", [made, nodes.numbers(high, np.uint8)], y)
        self.bytes.update(way.results)
        self.clips.update(way.clips)
        return True

    def _way(self, nodes: Nodes, result: str) -> _Way | None:
        """Return how a result is read, if all that read it make the same bytes of it."""
        low, high, pooled, flat, clips, results = -math.inf, math.inf, False, False, [], []
        while True:
            results.append(result)
            users = self._users[result]
            readers = [self._layers.get(user.output[0]) for user in users]
            if result in self._returned or not users:
                return None
            if None not in readers:
                break
            user, kind = users[0], users[0].op_type if len(users) == 1 else ""
            if kind in ("Relu", "Clip"):
                ends = [0.0, math.inf] if kind == "Relu" else _ends(nodes, user)
                if ends is None:
                    return None
                low, high = (min(max(v, ends[0]), ends[1]) for v in (low, high))
                clips.append(user.output[0])
            elif kind == "MaxPool" and len(user.output) == 1:
                pooled = True
            elif kind in ("Flatten", "Reshape"):
                flat = True
            else:
                return None
            result = user.output[0]
        first, *others = (reader for reader in readers if reader is not None)
        alike = all(_quantizes(r) and _same(first.input, r.input) for r in (first, *others))
        if not alike:
            return None
        return _Way(first, low, high, pooled, flat, tuple(results), tuple(clips))

    def _found(
        self, layer: PackedConv, way: _Way, wide: bool
    ) -> tuple[Requantized, int, int, int] | None:
        """Return how sums become bytes, the byte that is zero, and between which bytes they lie."""
        codes, quantizer = layer.input.codes, way.layer.input
        assert codes is not None
        weight = layer.integer_weight().numpy().astype(np.float64)
        unit = 255 / codes.step if wide else 1.0
        pad = float(codes.offset) if wide else 0.0  # whatever is zero, where nothing pads
        if any(map(any, layer.geometry.padding)):
            pad = layer.pad_level()
        zero = (pad - codes.offset) * unit
        if wide and zero not in (0, 255):
            return self._found(layer, way, False)
        top = 255 if wide else codes.step * (2**codes.bits - 1)
        shift = unit * pad * weight.reshape(len(weight), -1).sum(1)
        sums = Sums(unit, shift, layer.largest_sum(), np.abs(weight).max(), top)
        free = way.low == -math.inf and way.high == math.inf
        found: Requantized | None = None
        if gives_whole_sums(layer):
            emission = emission_for(layer, way.layer, way.flat) if free else None
            if emission is None or (way.pooled and bool(emission.flips.any())):
                return None
            found = of_thresholds(emission, sums)
            ends = [0, len(emission.least)]
        elif self._rounded and isinstance(quantizer, LevelsInput):
            line, scale = even(quantizer), layer.result_scale()
            if line is None:
                return None
            factor = np.ones(len(weight)) if scale is None else scale.double().numpy()
            bias = np.zeros(len(weight)) if layer.bias is None else layer.bias.double().numpy()
            found = of_line(line, factor, bias, sums)
            ends = quantizer.encode(torch.tensor([way.low, way.high]), 0).tolist()
        if found is None or (found.multiple * weight.T > 127).any():  # -128, turned
            return None
        low, high = [0, 255] if isinstance(quantizer, BinaryInput) else ends
        return found, int(zero), low, high


def _quantizes(layer: Any) -> bool:
    """Return whether a layer of bytes makes them of each number by itself."""
    known = isinstance(layer, PackedLayer) and isinstance(layer.input, (BinaryInput, LevelsInput))
    padded = getattr(layer, "padding_mode", "zeros") != "zeros"
    return known and not padded and reads_bytes(layer)


def _ends(nodes: Nodes, clip: Any) -> list[float] | None:
    """Return the ends of a Clip, ``None`` where they are no constants."""
    ends = [-math.inf, math.inf]
    for i, name in enumerate(clip.input[1:]):
        if name and name not in nodes.tensors:
            return None
        if name:
            ends[i] = float(numpy_helper.to_array(nodes.tensors[name]))
    return ends


def _same(first: Input, other: Input) -> bool:
    """Return whether two quantizers make the same codes."""
    if first is other:
        return True
    if first.spec() != other.spec():
        return False
    a, b = first.state_dict(), other.state_dict()
    return all(torch.equal(a[name], b[name]) for name in a)
