"""Float layers in C: linear, convolutional, normalizing."""

from __future__ import annotations

import math

from ste_lightning.deploy.export.c.float_call import FloatCall, listed
from ste_lightning.deploy.export.c.program import c_float
from ste_lightning.deploy.export.c.shapes import Window, pair

__all__ = ["LAYERS"]


def _norm(call: FloatCall) -> None:
    """Add a batch norm, y = scale x + shift per channel, with the roundings of torch."""
    if call.given["training"]:
        raise call.refuse("statistics of the batch")
    mean, variance = call.constant("running_mean"), call.constant("running_var")
    if mean is None or variance is None:
        raise call.refuse("statistics of the batch")
    weight, bias = call.constant("weight"), call.constant("bias")
    scale = (variance + call.given["eps"]).sqrt().reciprocal()  # rounded where torch rounds it
    scale = scale if weight is None else scale * weight
    shift = -mean * scale if bias is None else bias - mean * scale
    factors = call.array("scale", scale)
    shifts = call.array("shift", shift)
    source = call.source("input")
    channels = len(mean)
    inner = call.made.numel() // channels
    body = (
        f"for (int c = 0, i = 0; c < {channels}; ++c) {{\n"
        f"    for (int k = 0; k < {inner}; ++k, ++i) {{\n"
        f"        const float scaled = x[i] * {factors}[c];\n"
        f"        y[i] = scaled + {shifts}[c];\n"
        f"    }}\n}}"
    )
    call.add([source], body, in_place=True)


def _linear(call: FloatCall) -> None:
    weight = call.constant("weight")
    assert weight is not None
    weights = call.array("weights", weight)
    bias = call.constant("bias")
    biases = call.array("bias", bias)
    outputs, inputs = weight.shape
    rows = call.made.numel() // outputs
    body = (
        f"for (int row = 0; row < {rows}; ++row) {{\n"
        f"    float_sums({weights}, {outputs}, x + row * {inputs}, {inputs}, sums);\n"
        f"    scaled_floats(sums, {outputs}, NULL, {biases}, y + row * {outputs}, 1);\n}}"
    )
    kernels, room = ["float_sums", "scaled_floats"], [("sums", "float", outputs)]
    call.add([call.source("input")], body, kernels, room)


def _convolution(call: FloatCall) -> None:
    weight, bias = call.constant("weight"), call.constant("bias")
    assert weight is not None
    source = call.source("input")
    dims = weight.dim() - 2
    shape = call.shape(source)
    if dims not in (1, 2) or len(shape) != dims + 2:
        raise call.refuse(f"an input of {len(shape)} axes")
    stride, dilation = (listed(call.given[key], dims) for key in ("stride", "dilation"))
    padding = call.given["padding"]
    if isinstance(padding, str):
        taps = zip(weight.shape[2:], dilation, strict=True)
        padding = [d * (k - 1) // 2 if padding == "same" else 0 for k, d in taps]
    groups = call.given["groups"]
    window = Window(
        pair(shape[2:], 1), weight.shape[1], weight.shape[0] // groups, pair(weight.shape[2:], 1),
        pair(stride, 1), pair(listed(padding, dims), 0), pair(dilation, 1),
        pair(call.made.shape[2:], 1), groups,
    )  # fmt: skip
    weights = call.array("weights", weight)
    biases = call.array("bias", bias)
    length, outputs = weight[0].numel(), weight.shape[0]
    body = (
        f"{window.declared()}"
        f"for (int pixel = 0; pixel < {window.positions}; ++pixel) {{\n"
        f"    for (int group = 0; group < {groups}; ++group) {{\n"
        f"        float_patch(&at, 0, x, pixel, group, {length}, patch);\n"
        f"        float_sums({weights} + group * {length * window.outputs}, {window.outputs}, "
        f"patch, {length},\n            sums + group * {window.outputs});\n"
        f"    }}\n"
        f"    scaled_floats(sums, {outputs}, NULL, {biases}, y + pixel, {window.positions});\n}}"
    )
    room = [("sums", "float", outputs), ("patch", "float", length)]
    kernels = ["base", "float_patch", "float_sums", "scaled_floats"]
    call.add([source], body, kernels, room)


def _layer_norm(call: FloatCall) -> None:
    weight, bias = call.constant("weight"), call.constant("bias")
    arrays = [call.array(key, value) for key, value in (("scale", weight), ("bias", bias))]
    count = math.prod(call.given["normalized_shape"])
    given = f"{call.made.numel() // count}, {count}, {c_float(call.given['eps'])}"
    body = f"layer_norm(x, {given}, {arrays[0]}, {arrays[1]}, y);"
    call.add([call.source("input")], body, ["layer_norm"])


LAYERS = {
    "batch_norm": _norm,
    "linear": _linear,
    "conv1d": _convolution,
    "conv2d": _convolution,
    "layer_norm": _layer_norm,
}
