"""Torch's operators on floats in C."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ste_lightning.deploy.export.c.elementwise import BINARY, UNARY
from ste_lightning.deploy.export.c.pools import POOLS, add_pool
from ste_lightning.deploy.export.c.program import Program, Stored, c_float, refused
from ste_lightning.deploy.export.c.shapes import Window, pair
from ste_lightning.deploy.graph.operators import resolved
from ste_lightning.deploy.graph.steps import Ref, Step
from ste_lightning.deploy.graph.uses import Flow

__all__ = ["add_function", "floats_of"]

_VIEWS = """
reshape view _unsafe_view flatten.using_ints unflatten.int squeeze squeeze.dim squeeze.dims
unsqueeze contiguous alias detach clone dropout feature_dropout view_as reshape_as
"""
_SAME_NUMBERS = frozenset(_VIEWS.split())


def floats_of(shape: Sequence[int]) -> Stored:
    """Return how a tensor of floats is stored."""
    return Stored("floats", 1, 1, math.prod(shape))


class Call:
    """A step with its arguments by name and the shapes of what it gets and makes.

    Args:
        step: of torch's operators.
        flow: where results and constants are known.
    """

    def __init__(self, step: Step, flow: Flow) -> None:
        schema = resolved(step.target)._schema  # type: ignore[attr-defined]
        names = [argument.name for argument in schema.arguments]
        self.given: dict[str, Any] = {a.name: a.default_value for a in schema.arguments}
        self.given |= dict(zip(names, step.args, strict=False)) | step.kwargs
        self.packet = step.target.partition(".")[0]
        self.target, self.result, self._flow = step.target, step.result, flow
        self.names = names
        self.made: Tensor = flow.values[step.result]
        if self.made.dtype != torch.float32:
            raise refused(f"operator {step.target!r} of {self.made.dtype} (step {step.result!r})")

    def refuse(self, why: str) -> Exception:
        """Return the error for arguments that have no C."""
        return refused(f"operator {self.target!r} with {why} (step {self.result!r})")

    def constant(self, name: str) -> Tensor | None:
        """Return an argument that is a constant, or ``None`` where nothing is given."""
        value = self.given[name]
        if value is None:
            return None
        if not isinstance(value, Ref) or value.name not in self._flow.constants:
            raise self.refuse(f"{name!r} that is no constant")
        return self._flow.constants[value.name].detach().float()

    def source(self, name: str) -> str:
        """Return the name of an argument that is a result."""
        value = self.given[name]
        if not isinstance(value, Ref) or value.name in self._flow.constants:
            raise self.refuse(f"a constant {name!r}")
        if self._flow.values[value.name].dtype != torch.float32:
            raise self.refuse(f"{name!r} of {self._flow.values[value.name].dtype}")
        return value.name

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a result."""
        return tuple(self._flow.values[name].shape)


def add_function(program: Program, step: Step, flow: Flow) -> None:
    """Add a step.

    Raises:
        ConfigurationError: for one that has no C, with its name.
    """
    packet = step.target.partition(".")[0]
    known = packet in UNARY or packet in BINARY or packet in POOLS or packet in _OTHERS
    if not known and step.target not in _SAME_NUMBERS:
        raise refused(f"operator {step.target!r} (step {step.result!r})")
    call = Call(step, flow)
    if step.target in _SAME_NUMBERS:
        source = call.source(call.names[0])
        program.alias(step.result, source, floats_of(call.made.shape))
    elif packet in UNARY:
        _unary(program, call, UNARY[packet](call.given))
    elif packet in BINARY:
        _binary(program, call)
    elif packet in POOLS:
        source = call.source(call.names[0])
        add_pool(program, packet, call.given, source, call.shape(source), step.result, call.made)
    else:
        _OTHERS[packet](program, call)


def _add(
    program: Program, call: Call, inputs: Sequence[str], body: str, kernels: Sequence[str] = (),
    temporaries: Sequence[tuple[str, str, int]] = (), in_place: bool = False, name: str = "",
) -> None:  # fmt: skip
    comment = f"{call.packet}: {'x'.join(map(str, call.made.shape[1:]))}"
    name = name or program.unique(call.result)
    stored = floats_of(call.made.shape)
    program.add(name, comment, inputs, call.result, stored, body, kernels, temporaries, in_place)


def _unary(program: Program, call: Call, expression: str) -> None:
    body = (
        f"for (int i = 0; i < {call.made.numel()}; ++i) {{\n"
        f"    const float v = x[i];\n    y[i] = {expression};\n}}"
    )
    _add(program, call, [call.source(call.names[0])], body, in_place=True)


def _blocks(shape: Sequence[int], whole: Sequence[int], call: Call) -> tuple[int, int, int]:
    """Return (outer, middle, inner): how often each number of an operand is used in a row."""
    shape = [*[1] * (len(whole) - len(shape)), *shape]
    varies = [axis for axis, n in enumerate(shape) if n != 1]
    if not varies:
        return 1, 1, math.prod(whole)
    first, last = varies[0], varies[-1] + 1
    if list(shape[first:last]) != list(whole[first:last]):
        raise call.refuse(f"operands of shapes {tuple(shape)} and {tuple(whole)}")
    return math.prod(whole[:first]), math.prod(whole[first:last]), math.prod(whole[last:])


def _binary(program: Program, call: Call) -> None:
    """Add what combines two operands, of which one may be a constant or broadcast."""
    first, second = call.names[:2]
    whole = tuple(call.made.shape)
    name = program.unique(call.result)
    inputs: list[str] = []
    places: list[str] = []
    wide: list[tuple[int, int, int]] = []
    in_place = False
    for key in (first, second):
        value = call.given[key]
        if isinstance(value, (int, float)):
            places.append(c_float(value))
            continue
        assert isinstance(value, Ref)
        constant = value.name in call._flow.constants
        tensor = call._flow.values[value.name]
        shape = tuple(tensor.shape)
        if call.packet == "prelu" and key == second and len(shape) == 1:
            shape = (shape[0], *[1] * (len(whole) - 2))
        blocks = _blocks(shape, whole, call)
        full = blocks[0] == blocks[2] == 1
        if constant:
            array = program.array(f"{name}_{key}", call.constant(key).numpy())  # type: ignore[union-attr]
            at = array
        else:
            inputs.append(call.source(key))
            at = "ab"[len(inputs) - 1]
            in_place = in_place or (full and len(inputs) == 1)
        if not full:
            wide.append(blocks)
        places.append(f"{at}[i]" if full else f"{at}[{'m' if blocks[1] > 1 else '0'}]")
    if len(set(wide)) > 1 or not inputs:
        raise call.refuse("operands that are both broadcast")
    outer, middle, inner = wide[0] if wide else (1, 1, math.prod(whole))
    if len(inputs) == 1:
        places = [place.replace("a[", "x[") for place in places]
    if len(inputs) == 2 and inputs[0] == inputs[1]:
        inputs, places = inputs[:1], ["x[i]", "x[i]"]
    body = (
        f"int i = 0;\n"
        f"for (int outer = 0; outer < {outer}; ++outer) {{\n"
        f"    for (int m = 0; m < {middle}; ++m) {{\n"
        f"        for (int k = 0; k < {inner}; ++k, ++i) {{\n"
        f"            const float v = {places[0]}, w = {places[1]};\n"
        f"            y[i] = {BINARY[call.packet](call.given)};\n"
        f"        }}\n    }}\n}}"
    )
    _add(program, call, inputs, body, in_place=in_place, name=name)


def _norm(program: Program, call: Call) -> None:
    """Add a batch norm: y = scale x + shift per channel."""
    if call.given["training"]:
        raise call.refuse("statistics of the batch")
    mean, variance = call.constant("running_mean"), call.constant("running_var")
    if mean is None or variance is None:
        raise call.refuse("statistics of the batch")
    weight, bias = call.constant("weight"), call.constant("bias")
    scale = 1 / torch.sqrt(variance.double() + call.given["eps"])
    scale = scale if weight is None else scale * weight.double()
    shift = (0.0 if bias is None else bias.double()) - mean.double() * scale
    name = program.unique(call.result)
    factors = program.array(f"{name}_scale", scale.float().numpy())
    shifts = program.array(f"{name}_shift", shift.float().numpy())
    source = call.source("input")
    channels = len(mean)
    inner = call.made.numel() // channels
    body = (
        f"for (int c = 0, i = 0; c < {channels}; ++c) {{\n"
        f"    for (int k = 0; k < {inner}; ++k, ++i) {{\n"
        f"        y[i] = x[i] * {factors}[c] + {shifts}[c];\n"
        f"    }}\n}}"
    )
    _add(program, call, [source], body, in_place=True, name=name)


def _linear(program: Program, call: Call) -> None:
    weight = call.constant("weight")
    assert weight is not None
    name = program.unique(call.result)
    weights = program.array(f"{name}_weights", weight.numpy())
    bias = call.constant("bias")
    biases = program.array(f"{name}_bias", None if bias is None else bias.numpy())
    outputs, inputs = weight.shape
    rows = call.made.numel() // outputs
    body = (
        f"for (int row = 0; row < {rows}; ++row) {{\n"
        f"    float_sums({weights}, {outputs}, x + row * {inputs}, {inputs}, sums);\n"
        f"    scaled_floats(sums, {outputs}, NULL, {biases}, y + row * {outputs}, 1);\n}}"
    )
    kernels, room = ["float_sums", "scaled_floats"], [("sums", "float", outputs)]
    _add(program, call, [call.source("input")], body, kernels, room, name=name)


def _convolution(program: Program, call: Call) -> None:
    weight, bias = call.constant("weight"), call.constant("bias")
    assert weight is not None
    source = call.source("input")
    dims = weight.dim() - 2
    shape = call.shape(source)
    if dims not in (1, 2) or len(shape) != dims + 2:
        raise call.refuse(f"an input of {len(shape)} axes")
    stride, dilation = (_listed(call.given[key], dims) for key in ("stride", "dilation"))
    padding = call.given["padding"]
    if isinstance(padding, str):
        taps = zip(weight.shape[2:], dilation, strict=True)
        padding = [d * (k - 1) // 2 if padding == "same" else 0 for k, d in taps]
    groups = call.given["groups"]
    window = Window(
        pair(shape[2:], 1), weight.shape[1], weight.shape[0] // groups, pair(weight.shape[2:], 1),
        pair(stride, 1), pair(_listed(padding, dims), 0), pair(dilation, 1),
        pair(call.made.shape[2:], 1), groups,
    )  # fmt: skip
    name = program.unique(call.result)
    weights = program.array(f"{name}_weights", weight.numpy())
    biases = program.array(f"{name}_bias", None if bias is None else bias.numpy())
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
    _add(program, call, [source], body, kernels, room, name=name)


def _listed(value: Any, dims: int) -> list[int]:
    found = list(value) if isinstance(value, (list, tuple)) else [value]
    return found * dims if len(found) == 1 else found


def _softmax(program: Program, call: Call) -> None:
    shape = tuple(call.made.shape)
    axis = call.given["dim"] % len(shape)
    sizes = f"{math.prod(shape[:axis])}, {shape[axis]}, {math.prod(shape[axis + 1 :])}"
    body = f"softmax(x, {sizes}, {int('log' in call.packet)}, y);"
    _add(program, call, [call.source(call.names[0])], body, ["softmax"])


def _reduce(program: Program, call: Call) -> None:
    source = call.source(call.names[0])
    shape = call.shape(source)
    dims = call.given.get("dim")
    axes = sorted(axis % len(shape) for axis in _listed(dims, 1)) if dims else range(len(shape))
    axes = list(axes)
    if axes != list(range(axes[0], axes[-1] + 1)):
        raise call.refuse(f"axes {axes} that do not follow each other")
    count = math.prod(shape[axes[0] : axes[-1] + 1])
    divisor = count if call.packet == "mean" else 1
    sizes = f"{math.prod(shape[: axes[0]])}, {count}, {math.prod(shape[axes[-1] + 1 :])}"
    body = f"reduce(x, {sizes}, {int(call.packet == 'amax')}, {c_float(divisor)}, y);"
    _add(program, call, [source], body, ["reduce"])


def _layer_norm(program: Program, call: Call) -> None:
    weight, bias = call.constant("weight"), call.constant("bias")
    name = program.unique(call.result)
    arrays = [
        program.array(f"{name}_{key}", None if value is None else value.numpy())
        for key, value in (("scale", weight), ("bias", bias))
    ]
    count = math.prod(call.given["normalized_shape"])
    given = f"{call.made.numel() // count}, {count}, {c_float(call.given['eps'])}"
    body = f"layer_norm(x, {given}, {arrays[0]}, {arrays[1]}, y);"
    _add(program, call, [call.source("input")], body, ["layer_norm"], name=name)


def _permute(program: Program, call: Call) -> None:
    source = call.source(call.names[0])
    shape = call.shape(source)
    if len(shape) > 4:
        raise call.refuse(f"{len(shape)} axes")
    order = np.empty(shape, np.int8)
    call_order = list(range(len(shape)))
    if call.packet == "permute":
        call_order = [axis % len(shape) for axis in call.given["dims"]]
    else:
        one, other = (
            (call.given["dim0"], call.given["dim1"]) if call.packet == "transpose" else (0, -1)
        )
        call_order[one], call_order[other] = call_order[other], call_order[one]
    steps = [math.prod(shape[axis + 1 :]) for axis in call_order]
    missing = 4 - order.ndim
    sizes = ", ".join(map(str, [*[1] * missing, *call.made.shape]))
    moves = ", ".join(map(str, [*[0] * missing, *steps]))
    body = (
        f"static const int sizes[4] = {{{sizes}}}, steps[4] = {{{moves}}};\n"
        f"permute(x, sizes, steps, y);"
    )
    _add(program, call, [source], body, ["permute"])


def _pad(program: Program, call: Call) -> None:
    source = call.source(call.names[0])
    shape, pads = call.shape(source), list(call.given["pad"])
    if call.given.get("mode", "constant") != "constant" or len(pads) > 4 or len(shape) < 2:
        raise call.refuse("other padding than of two axes with a constant")
    left, right, top, bottom = [*pads, 0, 0, 0, 0][:4]
    height, width = pair(shape[-2:], 1)
    sizes = f"{math.prod(shape[:-2])}, {height}, {width}, {top}, {left}"
    whole = f"{height + top + bottom}, {width + left + right}"
    value = c_float(call.given["value"] or 0.0)
    _add(program, call, [source], f"pad_image(x, {sizes}, {whole}, {value}, y);", ["pad_image"])


def _concatenate(program: Program, call: Call) -> None:
    tensors = call.given["tensors"]
    if len(tensors) > 8 or not all(isinstance(t, Ref) for t in tensors):
        raise call.refuse("more than 8 tensors")
    if len({t.name for t in tensors} & set(call._flow.constants)) > 0:
        raise call.refuse("a constant")
    shape = tuple(call.made.shape)
    axis = call.given["dim"] % len(shape)
    outer, inner = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    lines = [f"for (int outer = 0; outer < {outer}; ++outer) {{"]
    letters = ["x"] if len(tensors) == 1 else list("abcdefgh")
    for at, tensor in zip(letters, tensors, strict=False):
        count = call.shape(tensor.name)[axis] * inner
        lines.append(f"    for (int k = 0; k < {count}; ++k) {{")
        lines.append(f"        *y++ = *{at}++;\n    }}")
    body = "\n".join([*lines, "}"])
    _add(program, call, [t.name for t in tensors], body)


_OTHERS: dict[str, Callable[[Program, Call], None]] = {
    "batch_norm": _norm,
    "linear": _linear,
    "conv1d": _convolution,
    "conv2d": _convolution,
    "softmax": _softmax,
    "log_softmax": _softmax,
    "mean": _reduce,
    "sum": _reduce,
    "amax": _reduce,
    "layer_norm": _layer_norm,
    "permute": _permute,
    "transpose": _permute,
    "t": _permute,
    "constant_pad_nd": _pad,
    "pad": _pad,
    "cat": _concatenate,
}
