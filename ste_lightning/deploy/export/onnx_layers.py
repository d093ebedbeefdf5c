"""Packed layers as nodes of ONNX.

A layer's input becomes unsigned bytes, channels last; the windows of an image lie beside each
other, so that a convolution is one MatMulInteger of bytes with int8 weights: exact sums, then a
scale and a bias per output. (Tried with onnxruntime 1.32: as fast as its QLinearConv, whose results
are bytes; its ConvInteger is fifty times slower, its float convolutions as fast for few channels
per group, faster for few in all: a ResNet-20 takes 0.80 to 0.93 of the time.) Other layers multiply
the same whole numbers as floats.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
from torch import Tensor

from ste_lightning.deploy.export.onnx_inputs import Place, Quantizing
from ste_lightning.deploy.export.onnx_layout import channels_first
from ste_lightning.deploy.export.onnx_nodes import Nodes
from ste_lightning.deploy.export.onnx_packed_matmul import multiplied, takes_bits
from ste_lightning.deploy.export.onnx_runs import reads_bytes
from ste_lightning.deploy.layers.embedding import PackedEmbedding
from ste_lightning.deploy.layers.input_quantizers import BinaryInput, Input, TokenInput
from ste_lightning.deploy.layers.linear_and_conv import PackedConv
from ste_lightning.deploy.layers.packed_layer import PackedLayer, fits_signed
from ste_lightning.deploy.layers.spatial import PackedSpatial
from ste_lightning.deploy.layers.transposed import PackedConvTranspose, outputs_first

__all__ = ["write_layer"]

_MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}
_END = np.iinfo(np.int64).max
_FEW = 16  # input channels: laying windows beside each other takes longer than a float convolution


def write_layer(
    nodes: Nodes,
    layer: Any,
    bound: float | None,
    x: str,
    rank: int,
    growth: list[int],
    y: str,
    given: bool = False,
) -> None:
    """Add the nodes of a packed layer, or of a quantizer alone.

    Args:
        nodes: where they go.
        layer: the module.
        bound: on its inputs, where these are whole numbers.
        x, rank: its input's name and number of axes.
        growth: of a transposed convolution.
        y: its result's name.
        given: whether its input is bytes already.
    """
    if isinstance(layer, Input):
        levels, token = Quantizing(nodes, layer, bound).floats(Place(x, rank, rank - 1))
        nodes.add("Mul", [levels, token or nodes.numbers(layer.scale, np.float32)], y)
        return
    if isinstance(layer, PackedEmbedding):
        _embedding(nodes, layer, x, y)
        return
    quantizing = Quantizing(nodes, layer.input, bound, given)
    dims = len(layer.shape) - 2
    place = Place(x, rank, rank - 1 - dims)
    if isinstance(layer, PackedConv) and layer.padding_mode != "zeros":
        mode = _MODES[layer.padding_mode]
        nodes.opset = max(nodes.opset, 19)
        place = place._replace(name=_padded(nodes, layer, place, "", mode))
    if nodes.onnxruntime and takes_bits(layer):
        multiplied(nodes, layer, x, rank, y)
        return
    product = _bytes if _sums_bytes(layer) else _floats
    product(nodes, layer, quantizing, place, growth, y)


def _sums_bytes(layer: PackedLayer) -> bool:
    """Return whether a layer is a MatMulInteger."""
    mixed = isinstance(layer.input, TokenInput) and len(layer.shape) > 2
    narrow = math.prod(layer.shape[2:]) > 1 and layer.shape[1] <= _FEW
    return reads_bytes(layer) and layer.groups == 1 and not mixed and not narrow


def _is_small(layer: PackedLayer) -> bool:
    return fits_signed(layer.integer_weight(), 8)


def _padded(nodes: Nodes, layer: Any, x: Place, value: str, mode: str = "constant") -> str:
    """Return the padded input."""
    before, after = ([0] * x.rank for _ in range(2))
    axes = [i for i in range(x.rank) if i != x.axis][-len(layer.geometry.kernel) :]
    for axis, (first, last) in zip(axes, layer.geometry.padding, strict=True):
        before[axis], after[axis] = first, last
    if not any(before + after):
        return x.name
    given = [x.name, nodes.numbers(before + after), *([value] if value else [])]
    return nodes.add("Pad", given, mode=mode)


def _bytes(
    nodes: Nodes, layer: Any, quantizing: Quantizing, x: Place, growth: list[int], y: str
) -> None:
    """Add a product of bytes."""
    place = x if quantizing.alike and x.name not in nodes.last else x.last(nodes)
    codes, token = quantizing.bytes(place)
    place = place._replace(name=codes).last(nodes)
    if isinstance(layer, PackedConv):
        if layer.padding_mode == "zeros":
            value = nodes.numbers(int(layer.pad_level()) + quantizing.zero, np.uint8)
            place = place._replace(name=_padded(nodes, layer, place, value))
        place = place._replace(name=_windows(nodes, layer, place))
    weight = layer.integer_weight().movedim((0, 1), (-1, -2))  # kernel, channels, outputs
    levels = nodes.levels(weight.reshape(-1, layer.shape[0]).contiguous(), layer)
    zero = nodes.numbers(quantizing.zero, np.uint8)
    scale = layer.result_scale()
    if nodes.onnxruntime and not token and scale is not None:
        given = [place.name, levels, nodes.numbers(1, np.float32), nodes.tensor(scale), zero]
        given += [nodes.numbers(0, np.int8)]
        given += [] if layer.bias is None else [nodes.tensor(layer.bias)]
        sums = nodes.add("MatMulIntegerToFloat", given, domain="com.microsoft")
        _channels_at(nodes, place._replace(name=sums), x.axis, y)
        return
    sums = nodes.add("MatMulInteger", [place.name, levels, zero])
    _shifted(nodes, layer, place._replace(name=nodes.floats(sums)), token, x.axis, y)


def _shifted(nodes: Nodes, layer: PackedLayer, sums: Place, token: str, axis: int, y: str) -> None:
    """Add scales and bias, and bring the channels back to an axis; the result is ``y``."""
    factors = []
    scale = layer.result_scale()
    if scale is not None and scale.dim() == 1:
        factors.append(("Mul", sums.vector(nodes, scale)))
    if token:
        factors.append(("Mul", token))
    if layer.bias is not None:
        factors.append(("Add", sums.vector(nodes, layer.bias)))
    name = sums.name
    for operator, other in factors:
        name = nodes.add(operator, [name, other])
    _channels_at(nodes, sums._replace(name=name), axis, y)


def _channels_at(nodes: Nodes, x: Place, axis: int, y: str) -> None:
    """Bring the channels to an axis; the result is ``y``."""
    if axis == x.axis:
        nodes.add("Identity", [x.name], y)
        return
    if axis == 1:
        channels_first(nodes, x.name, x.rank, y)
        return
    order = list(range(x.rank - 1))
    nodes.add("Transpose", [x.name], y, perm=[*order[:axis], x.rank - 1, *order[axis:]])


def _windows(nodes: Nodes, layer: PackedConv, x: Place) -> str:
    """Return what lays the windows of padded images (*, *size, channels) beside each other."""
    g = layer.geometry
    if math.prod(g.kernel) == 1 and max(g.stride) == 1:
        return x.name
    axes = nodes.numbers(np.arange(-len(g.kernel) - 1, -1))
    stride = [nodes.numbers(g.stride)] if max(g.stride) > 1 else []
    parts = []
    for tap in itertools.product(*map(range, g.kernel)):
        start = np.array(tap) * g.dilation
        end = start - np.array(g.dilation) * (np.array(g.kernel) - 1)
        ends = (nodes.numbers(start), nodes.numbers(np.where(end == 0, _END, end)))
        parts.append(nodes.add("Slice", [x.name, *ends, axes, *stride]))
    return parts[0] if len(parts) == 1 else nodes.add("Concat", parts, axis=-1)


def _float_weight(nodes: Nodes, layer: PackedLayer, arrange: Any) -> str:
    """Return the weights as floats, with the scales of groups of them."""
    weight = layer.integer_weight()
    if not _is_small(layer):
        return nodes.tensor(arrange(layer.float_weight()))
    scale = layer.scale
    if scale is None or scale.dim() == 1:
        return nodes.floats(nodes.levels(arrange(weight).contiguous(), layer))
    levels = nodes.floats(nodes.levels(weight, layer))
    groups = nodes.add("Reshape", [levels, nodes.numbers([*scale.shape, -1])])
    worth = scale.unsqueeze(-1) * layer.input_scale()
    scaled = nodes.add("Mul", [groups, nodes.tensor(worth)])
    if not isinstance(layer, PackedConvTranspose):
        whole = nodes.add("Reshape", [scaled, nodes.numbers(layer.shape)])
        return nodes.add("Transpose", [whole], perm=[1, 0]) if len(layer.shape) == 2 else whole
    outputs, inputs, *kernel = layer.shape
    split = nodes.numbers([layer.groups, outputs // layer.groups, inputs, *kernel])
    order = [0, 2, 1, *range(3, 3 + len(kernel))]
    turned = nodes.add("Transpose", [nodes.add("Reshape", [scaled, split])], perm=order)
    return nodes.add("Reshape", [turned, nodes.numbers(layer.torch_shape())])


def _floats(
    nodes: Nodes, layer: Any, quantizing: Quantizing, x: Place, growth: list[int], y: str
) -> None:
    """Add a product of floats."""
    lift = _lift(layer)
    levels, token = quantizing.floats(x, lift)
    spatial = isinstance(layer, PackedSpatial)
    if token and spatial:  # a convolution mixes tokens
        levels, token = nodes.add("Mul", [levels, token]), ""
    place = x._replace(name=levels)
    if not spatial:
        weight = _float_weight(nodes, layer, lambda w: w.T)
        sums = nodes.add("MatMul", [levels, weight])
    else:
        sums = _convolved(nodes, layer, place, growth, lift)
    _shifted(nodes, layer, place._replace(name=sums), token, x.axis, y)


def _lift(layer: PackedLayer) -> int:
    """Return what is added to binary inputs, so that padding is zero: Pad takes as long as a layer.

    The convolution's bias takes it away again; all sums are whole numbers.
    """
    binary = isinstance(layer, PackedConv) and isinstance(layer.input, BinaryInput)
    scale = layer.scale
    plain = _is_small(layer) and (scale is None or scale.dim() == 1)
    if not (binary and plain and layer.padding_mode == "zeros"):
        return 0
    pad = float(layer.pad_level() or 0)
    return -int(pad) if pad.is_integer() else 0


def _convolved(nodes: Nodes, layer: Any, x: Place, growth: list[int], lift: int) -> str:
    """Add a convolution of levels with ``lift`` added to them."""
    g, turned = layer.geometry, isinstance(layer, PackedConvTranspose)
    options: dict[str, Any] = {
        "kernel_shape": g.kernel,
        "strides": g.stride,
        "dilations": g.dilation,
        "group": layer.groups,
    }
    name, alone = x.name, x.rank == len(g.kernel) + 1
    pads = [p[side] for side in (0, 1) for p in g.padding]
    pad = layer.pad_level() or 0.0
    if turned or (pad + lift == 0 and layer.padding_mode == "zeros"):
        options["pads"] = pads
    elif layer.padding_mode == "zeros":
        name = _padded(nodes, layer, x, nodes.numbers(pad, np.float32))
    if turned:
        options["output_padding"] = growth or layer.output_padding
        weight = _float_weight(nodes, layer, lambda w: outputs_first(w, layer.groups))
    else:
        weight = _float_weight(nodes, layer, _as_it_is)
    if alone:
        name = nodes.add("Unsqueeze", [name, nodes.numbers([0])])
    given = [name, weight]
    if lift:
        given.append(nodes.tensor(-lift * layer.integer_weight().flatten(1).sum(1).float()))
    name = nodes.add("ConvTranspose" if turned else "Conv", given, **options)
    return nodes.add("Squeeze", [name, nodes.numbers([0])]) if alone else name


def _as_it_is(weight: Tensor) -> Tensor:
    return weight


def _embedding(nodes: Nodes, layer: PackedEmbedding, x: str, y: str) -> None:
    """Add the look-up of rows, and of their scales."""
    scale = layer.scale
    if not _is_small(layer):
        nodes.add("Gather", [nodes.tensor(layer.float_weight()), x], y)
        return
    rows = nodes.floats(nodes.add("Gather", [nodes.levels(layer.integer_weight(), layer), x]))
    if scale is None:
        nodes.add("Identity", [rows], y)
        return
    count, width = scale[0].numel(), layer.shape[1]
    found = nodes.add("Gather", [nodes.tensor(scale.view(-1, count, 1)), x])
    size = nodes.add("Shape", [x])
    parts = nodes.add("Concat", [size, nodes.numbers([count, width // count])], axis=0)
    whole = nodes.add("Concat", [size, nodes.numbers([width])], axis=0)
    split = nodes.add("Reshape", [rows, parts])
    nodes.add("Reshape", [nodes.add("Mul", [split, found]), whole], y)
