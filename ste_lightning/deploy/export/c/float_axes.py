"""Operators along axes in C: reductions, and what moves numbers."""

from __future__ import annotations

import math

from ste_lightning.deploy.export.c.float_call import FloatCall, listed
from ste_lightning.deploy.export.c.program import c_float
from ste_lightning.deploy.export.c.shapes import pair
from ste_lightning.deploy.graph.steps import Ref

__all__ = ["ALONG_AXES"]


def _softmax(call: FloatCall) -> None:
    shape = tuple(call.made.shape)
    axis = call.given["dim"] % len(shape)
    sizes = f"{math.prod(shape[:axis])}, {shape[axis]}, {math.prod(shape[axis + 1 :])}"
    body = f"softmax(x, {sizes}, {int('log' in call.packet)}, y);"
    call.add([call.source(call.names[0])], body, ["softmax"])


def _reduce(call: FloatCall) -> None:
    source = call.source(call.names[0])
    shape = call.shape(source)
    dims = call.given.get("dim")
    given = range(len(shape)) if dims is None or dims == [] else listed(dims, 1)
    axes = sorted(axis % len(shape) for axis in given)
    if axes != list(range(axes[0], axes[-1] + 1)):
        raise call.refuse(f"axes {axes} that do not follow each other")
    count = math.prod(shape[axes[0] : axes[-1] + 1])
    divisor = count if call.packet == "mean" else 1
    sizes = f"{math.prod(shape[: axes[0]])}, {count}, {math.prod(shape[axes[-1] + 1 :])}"
    body = f"reduce(x, {sizes}, {int(call.packet == 'amax')}, {c_float(divisor)}, y);"
    call.add([source], body, ["reduce"])


def _permute(call: FloatCall) -> None:
    source = call.source(call.names[0])
    shape = call.shape(source)
    if len(shape) > 4:
        raise call.refuse(f"{len(shape)} axes")
    order = list(range(len(shape)))
    if call.packet == "permute":
        order = [axis % len(shape) for axis in call.given["dims"]]
    else:
        one, other = (
            (call.given["dim0"], call.given["dim1"]) if call.packet == "transpose" else (0, -1)
        )
        order[one], order[other] = order[other], order[one]
    steps = [math.prod(shape[axis + 1 :]) for axis in order]
    missing = 4 - len(order)
    sizes = ", ".join(map(str, [*[1] * missing, *call.made.shape]))
    moves = ", ".join(map(str, [*[0] * missing, *steps]))
    body = (
        f"static const int sizes[4] = {{{sizes}}}, steps[4] = {{{moves}}};\n"
        f"permute(x, sizes, steps, y);"
    )
    call.add([source], body, ["permute"])


def _pad(call: FloatCall) -> None:
    source = call.source(call.names[0])
    shape, pads = call.shape(source), list(call.given["pad"])
    if call.given.get("mode", "constant") != "constant" or len(pads) > 4 or len(shape) < 2:
        raise call.refuse("other padding than of two axes with a constant")
    left, right, top, bottom = [*pads, 0, 0, 0, 0][:4]
    height, width = pair(shape[-2:], 1)
    sizes = f"{math.prod(shape[:-2])}, {height}, {width}, {top}, {left}"
    whole = f"{height + top + bottom}, {width + left + right}"
    value = c_float(call.given["value"] or 0.0)
    call.add([source], f"pad_image(x, {sizes}, {whole}, {value}, y);", ["pad_image"])


def _concatenate(call: FloatCall) -> None:
    tensors = call.given["tensors"]
    if any(not isinstance(t, Ref) or t.name in call.flow.constants for t in tensors):
        raise call.refuse("a constant")
    shape = tuple(call.made.shape)
    axis = call.given["dim"] % len(shape)
    outer, inner = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    lines = [f"for (int outer = 0; outer < {outer}; ++outer) {{"]
    for i, tensor in enumerate(tensors):
        at = "x" if len(tensors) == 1 else f"x{i}"
        count = call.shape(tensor.name)[axis] * inner
        lines.append(f"    for (int k = 0; k < {count}; ++k) {{")
        lines.append(f"        *y++ = *{at}++;\n    }}")
    body = "\n".join([*lines, "}"])
    call.add([t.name for t in tensors], body)


ALONG_AXES = {
    "softmax": _softmax,
    "log_softmax": _softmax,
    "mean": _reduce,
    "sum": _reduce,
    "amax": _reduce,
    "permute": _permute,
    "transpose": _permute,
    "t": _permute,
    "constant_pad_nd": _pad,
    "pad": _pad,
    "cat": _concatenate,
}
