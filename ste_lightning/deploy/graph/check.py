"""A graph proven to fit its layers and constants, before anything is computed with it.

Every step is run on tensors without memory, at the sizes with which the network was captured:
torch's own schemas and shape rules then judge types and sizes, and what steps make, on their way,
too, is counted. Rows that a mask chooses are taken to be all rows.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx.experimental import _config

from ste_lightning.deploy.graph.memory import Made, is_written_out, recurrent
from ste_lightning.deploy.graph.operators import FACTORIES, SIZES, resolved
from ste_lightning.deploy.graph.steps import CONSTANT, Graph, Record, Ref, Step, filled, references
from ste_lightning.deploy.graph.whole_operators import RECURRENT, result_shapes
from ste_lightning.deploy.layers.operator import Opaque
from ste_lightning.errors import ConfigurationError, require

__all__ = ["FAILURES", "checked", "uncomputable"]

FAILURES = (
    *(RuntimeError, TypeError, ValueError, IndexError, KeyError, AttributeError),
    *(NotImplementedError, OverflowError, ArithmeticError, AssertionError),
)
_MOST_ELEMENTS = 1 << 31
_PLAIN, _TIMES = 1 << 26, 1 << 10  # numbers of all results: of a small network, and per given one
_NAMED = ("dtype", "layout", "memory_format")  # torch takes any integer, too, and may crash
_MOST_PARTS = 1 << 12
_KNOWN = hasattr(_config, "meta_nonzero_assume_all_nonzero")  # torch 2.6 has none
_ALL_ROWS: Any = (
    _config.patch(meta_nonzero_assume_all_nonzero=True)  # type: ignore[attr-defined]
    if _KNOWN
    else contextlib.nullcontext()
)


def uncomputable(what: str, error: BaseException) -> ConfigurationError:
    """Return the error for what torch refuses to compute, with the first line of its reason."""
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return ConfigurationError(f"{what} cannot be computed: {reason}")


@torch.no_grad()
def checked(
    graph: Graph, layers: Mapping[str, nn.Module], constants: Mapping[str, Tensor]
) -> dict[str, Any]:
    """Return every result as a tensor without memory, or as the number that it is.

    Args:
        graph: whose sizes of examples are used.
        layers: name -> packed module.
        constants: name -> tensor.

    Raises:
        ConfigurationError: for a step that cannot be computed, with its name and the reason.
    """
    values: dict[str, Any] = {}
    for given in graph.inputs:
        require(
            math.prod(max(n, 1) for n in given.example) <= _MOST_ELEMENTS,
            "input",
            given.example,
            "its sizes are not plausible",
        )
        values[given.name] = torch.empty(given.example, dtype=given.dtype, device="meta")
    for name in graph.constants():
        if name not in constants:
            raise ConfigurationError(f"the constant {name!r} is missing.")
        values[CONSTANT + name] = constants[name].to("meta")
    inputs = set(references(graph.arguments))
    require(
        inputs == {given.name for given in graph.inputs}, "arguments", inputs, "name all inputs"
    )
    held = [
        *values.values(),
        *(t for layer in layers.values() for t in layer.state_dict().values()),
    ]
    left = max(_PLAIN, _TIMES * sum(t.numel() for t in held))
    for step in graph.steps:
        for name in references((step.args, step.kwargs)):
            if name not in values:
                raise ConfigurationError(f"step {step.result!r} uses {name!r} before it is made.")
        if step.result in values or step.result.startswith(CONSTANT):
            raise ConfigurationError(f"the result {step.result!r} is made twice.")
        try:
            with _ALL_ROWS:
                values[step.result], inside = _result(step, layers, values)
        except ConfigurationError:
            raise
        except FAILURES as error:
            raise uncomputable(f"step {step.result!r} ({step.target})", error) from error
        made = _plausible(step, values[step.result])
        if max(made, inside) > left:
            raise ConfigurationError(
                f"its steps make more than {_TIMES} times the numbers that they are given, which "
                f"is not plausible (up to {step.result!r}, {step.target})."
            )
        left -= made
    named = references(graph.output)
    known = bool(named) and all(name in values for name in named)
    require(known, "output", named, "name known results")
    return values


def _result(
    step: Step, layers: Mapping[str, nn.Module], values: Mapping[str, Any]
) -> tuple[Any, int]:
    """Return a step's result, and how many numbers it makes on its way."""

    def of(ref: Ref) -> Any:
        return values[ref.name]

    def record(found: Record) -> Any:
        raise ConfigurationError(f"step {step.result!r} has the argument {found.name}.")

    args, kwargs = filled(step.args, of, record), filled(step.kwargs, of, record)
    if step.op == "layer":
        layer = layers.get(step.target)
        if layer is None:
            raise ConfigurationError(f"there is no layer {step.target!r}.")
        require(
            not kwargs and 1 <= len(args) <= 2 and isinstance(args[0], Tensor),
            "arguments",
            len(args),
            "a layer takes a tensor",
        )
        if not isinstance(layer, Opaque):
            with Made() as made:
                return layer.to("meta")(args[0]), made.numbers
        growth = args[1] if len(args) > 1 else ()
        require(
            all(type(n) is int and 0 <= n < 1 << 10 for n in growth), "growth", growth, "use sizes"
        )
        return layer.result_like(args[0], growth), 0
    if step.op != "function":
        raise ConfigurationError(f"step {step.result!r} is a {step.op!r}, which is not known.")
    function = resolved(step.target)
    schema = getattr(function, "_schema", None)
    names = [argument.name for argument in schema.arguments] if schema is not None else []
    for name, value in (*zip(names, args, strict=False), *kwargs.items()):
        require(not (name in _NAMED and type(value) is int), name, value, "name it")
    if step.target in RECURRENT.values():
        return _recurrent(step, *args, **kwargs)
    if step.target in FACTORIES:
        kwargs["device"] = "meta"
    if step.target not in SIZES:
        _few_parts(step.target.partition(".")[0], args)
    with Made() as made:
        result = function(*args, **kwargs)
    return result, made.numbers if is_written_out(step.target, args) else 0


def _recurrent(
    step: Step, x: Tensor, hx: Any, params: Any, biases: bool, layers: int, dropout: float,
    train: bool, bidirectional: bool, batch_first: bool,
) -> tuple[Any, int]:  # fmt: skip
    """Return the results of a recurrent layer, whose weights must fit, and the numbers of gates."""
    states = list(hx) if isinstance(hx, (list, tuple)) else [hx]
    name = step.target.partition(".")[0]
    gates = {"lstm": 4, "gru": 3}.get(name, 1)
    ways = 2 if bidirectional else 1
    width, hidden = x.shape[-1], states[0].shape[-1]
    cell = states[-1].shape[-1]
    each = (4 if biases else 2) + (hidden != cell)
    fits = len(states) == (2 if name == "lstm" else 1) and len(params) == layers * ways * each
    fits = fits and x.dim() == 3 and not train and all(s.dim() == 3 for s in states)
    batch = x.shape[0 if batch_first else 1] if fits else 0
    fits = fits and all(list(s.shape[:2]) == [layers * ways, batch] for s in states)
    for index in range(layers * ways if fits else 0):
        inner = width if index < ways else hidden * ways
        wanted: list[tuple[Any, ...]] = [(gates * cell, inner), (gates * cell, hidden)]
        wanted += [(gates * cell,)] * 2 if biases else []
        wanted += [(hidden, cell)] if hidden != cell else []
        found = [tuple(p.shape) for p in params[index * each : (index + 1) * each]]
        fits = fits and found == wanted
    require(fits, "recurrent layer", step.result, "its weights do not fit")
    shapes = result_shapes(x.shape, [state.shape for state in states], bidirectional)
    return tuple(x.new_empty(shape) for shape in shapes), recurrent(x, gates, cell)


def _few_parts(name: str, args: tuple[Any, ...]) -> None:
    """Refuse to split a tensor into a great many."""
    parts = 0
    if name in ("split", "chunk", "unbind", "tensor_split", "split_with_sizes"):
        x, *rest = args
        axis = rest[-1] if rest and name != "unbind" and len(rest) > 1 else 0
        axis = rest[0] if name == "unbind" and rest else axis
        size = x.shape[axis] if x.dim() else 0
        number = rest[0] if rest and type(rest[0]) is int and name != "unbind" else 1
        parts = size // max(number, 1) if name in ("split", "unbind") else number
    if name == "combinations":  # torch makes a grid of as many axes first
        count, axes = args[0].numel(), args[1] if len(args) > 1 else 2
        fits = type(axes) is int and 0 <= axes < 32 and count**axes <= _MOST_ELEMENTS
        require(fits, "combinations", axes, "use fewer")
    if name in ("meshgrid", "cartesian_prod", "combinations", "block_diag", "einsum"):
        parts = max([1, *[len(a) for a in args if isinstance(a, (list, tuple))]]) * 16
    require(parts <= _MOST_PARTS, "parts", parts, f"use at most {_MOST_PARTS}")


def _plausible(step: Step, value: Any) -> int:
    """Return how many numbers a step makes, which must be a plausible number."""
    found = value if isinstance(value, (list, tuple)) else [value]
    # a size of zero beside a huge one makes no number, but torch may loop over the other
    shapes = [item.shape for item in found if isinstance(item, Tensor)]
    sizes = [math.prod(max(n, 1) for n in shape) for shape in shapes]
    if max(sizes, default=0) > _MOST_ELEMENTS:
        raise ConfigurationError(
            f"step {step.result!r} makes {max(sizes):.3g} numbers, which is not plausible."
        )
    return sum(sizes)
