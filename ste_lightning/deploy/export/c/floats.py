"""Torch's operators on floats in C."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from ste_lightning.deploy.export.c.elementwise import BINARY, UNARY
from ste_lightning.deploy.export.c.float_axes import ALONG_AXES
from ste_lightning.deploy.export.c.float_call import FloatCall, floats_of
from ste_lightning.deploy.export.c.float_layers import LAYERS
from ste_lightning.deploy.export.c.pools import POOLS
from ste_lightning.deploy.export.c.program import Program, c_float, refused
from ste_lightning.deploy.graph.steps import Ref, Step
from ste_lightning.deploy.graph.uses import Flow

__all__ = ["add_function"]

_VIEWS = """
reshape view _unsafe_view flatten.using_ints unflatten.int squeeze squeeze.dim squeeze.dims
unsqueeze contiguous alias detach clone view_as reshape_as
"""
_SAME_NUMBERS = frozenset(_VIEWS.split())


_OTHERS: dict[str, Callable[[FloatCall], None]] = {**LAYERS, **ALONG_AXES, **POOLS}


def add_function(program: Program, step: Step, flow: Flow) -> None:
    """Add a step.

    Raises:
        ConfigurationError: for one that has no C, with its name.
    """
    packet, _, overload = step.target.partition(".")
    binary = packet in BINARY and overload in ("", "Tensor", "Scalar")
    known = step.target in UNARY or binary or packet in _OTHERS
    if not known and step.target not in _SAME_NUMBERS:
        raise refused(f"operator {step.target!r} (step {step.result!r})")
    call = FloatCall(program, step, flow)
    if step.target in _SAME_NUMBERS:
        source = call.source(call.names[0])
        program.alias(step.result, source, floats_of(call.made.shape))
    elif packet in UNARY:
        _unary(call, UNARY[packet](call.given))
    elif packet in BINARY:
        _binary(call)
    else:
        _OTHERS[packet](call)


def _unary(call: FloatCall, expression: str) -> None:
    body = (
        f"for (int i = 0; i < {call.made.numel()}; ++i) {{\n"
        f"    const float v = x[i];\n    y[i] = {expression};\n}}"
    )
    call.add([call.source(call.names[0])], body, in_place=True)


def _blocks(shape: Sequence[int], whole: Sequence[int], call: FloatCall) -> tuple[int, int, int]:
    """Return (outer, middle, inner): how often each number of an operand is used in a row."""
    shape = [*[1] * (len(whole) - len(shape)), *shape]
    varies = [axis for axis, n in enumerate(shape) if n != 1]
    if not varies:
        return 1, 1, math.prod(whole)
    first, last = varies[0], varies[-1] + 1
    if list(shape[first:last]) != list(whole[first:last]):
        raise call.refuse(f"operands of shapes {tuple(shape)} and {tuple(whole)}")
    return math.prod(whole[:first]), math.prod(whole[first:last]), math.prod(whole[last:])


def _binary(call: FloatCall) -> None:
    """Add what combines two operands, of which one may be a constant or broadcast."""
    first, second = call.names[:2]
    whole = tuple(call.made.shape)
    constants = call.flow.constants
    given = [v for key in (first, second) if isinstance(v := call.given[key], Ref)]
    inputs = list(dict.fromkeys(ref.name for ref in given if ref.name not in constants))
    places: list[str] = []
    wide: list[tuple[int, int, int]] = []
    in_place = False
    for key in (first, second):
        value = call.given[key]
        if isinstance(value, (int, float)):
            places.append(c_float(value))
            continue
        assert isinstance(value, Ref)
        shape = call.shape(value.name)
        if call.packet == "prelu" and key == second and len(shape) == 1:
            shape = (shape[0], *[1] * (len(whole) - 2))
        blocks = _blocks(shape, whole, call)
        full = blocks[0] == blocks[2] == 1
        if value.name in constants:
            at = call.array(key, call.constant(key))
        else:
            index = inputs.index(call.source(key))
            at = "x" if len(inputs) == 1 else f"x{index}"
            in_place = in_place or (full and index == 0)
        if not full:
            wide.append(blocks)
        places.append(f"{at}[i]" if full else f"{at}[{'m' if blocks[1] > 1 else '0'}]")
    if len(set(wide)) > 1 or not inputs:
        raise call.refuse("operands that are both broadcast")
    outer, middle, inner = wide[0] if wide else (1, 1, math.prod(whole))
    body = (
        f"int i = 0;\n"
        f"for (int outer = 0; outer < {outer}; ++outer) {{\n"
        f"    for (int m = 0; m < {middle}; ++m) {{\n"
        f"        for (int k = 0; k < {inner}; ++k, ++i) {{\n"
        f"            const float v = {places[0]}, w = {places[1]};\n"
        f"            y[i] = {BINARY[call.packet](call.given)};\n"
        f"        }}\n    }}\n}}"
    )
    call.add(inputs, body, in_place=in_place)
