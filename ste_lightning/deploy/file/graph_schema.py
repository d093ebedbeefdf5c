"""Graphs as plain data, to JSON and back."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from ste_lightning.deploy.file.schema import typed
from ste_lightning.deploy.graph.steps import Graph, GraphInput, Record, Ref, Step
from ste_lightning.errors import ConfigurationError, unknown

__all__ = ["decoded", "describe_graph", "rebuild_graph"]

_DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        *(torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.bool, torch.uint8),
        *(torch.int8, torch.int16, torch.int32, torch.int64, torch.complex64, torch.complex128),
    )
}
_FORMATS = {
    str(value).removeprefix("torch."): value
    for value in (torch.contiguous_format, torch.channels_last, torch.preserve_format,
                  torch.channels_last_3d)
}  # fmt: skip
_LARGEST = (1 << 63) - 1
_MOST_AXES = 16
_LAYER = "layer "


def describe_graph(graph: Graph) -> dict[str, Any]:
    """Return the plain description of a graph."""
    return {
        "arguments": _encode(graph.arguments),
        "inputs": [[g.name, _name(g.dtype), list(g.sizes), list(g.example)] for g in graph.inputs],
        "steps": [
            [
                step.result,
                _LAYER + step.target if step.op == "layer" else step.target,
                [_encode(value) for value in step.args],
                *([{key: _encode(v) for key, v in step.kwargs.items()}] if step.kwargs else []),
            ]
            for step in graph.steps
        ],
        "output": _encode(graph.output),
    }


def rebuild_graph(spec: dict[str, Any]) -> Graph:
    """Return the graph that :func:`describe_graph` described; operators are judged elsewhere.

    Raises:
        ConfigurationError: for anything that :func:`describe_graph` would not write.
    """
    arguments = decoded(spec.get("arguments"))
    if not isinstance(arguments, dict):
        raise ConfigurationError("the arguments are not named.")
    steps = []
    for entry in typed(spec, "steps", list):
        if not isinstance(entry, list) or len(entry) not in (3, 4):
            raise ConfigurationError("a step is not [result, target, arguments, keywords].")
        result, target, args = entry[:3]
        kwargs = entry[3] if len(entry) > 3 else {}
        named = isinstance(result, str) and isinstance(target, str)
        if not named or not isinstance(args, list) or not isinstance(kwargs, dict):
            raise ConfigurationError(f"step {result!r} has no sound arguments.")
        op = "layer" if target.startswith(_LAYER) else "function"
        keywords = {key: decoded(value) for key, value in kwargs.items()}
        given = tuple(decoded(value) for value in args)
        steps.append(Step(result, op, target.removeprefix(_LAYER), given, keywords))
    inputs = tuple(_input(entry) for entry in typed(spec, "inputs", list))
    return Graph(arguments, inputs, tuple(steps), decoded(spec.get("output")))


def _input(entry: Any) -> GraphInput:
    if not isinstance(entry, list) or len(entry) != 4:
        raise ConfigurationError("an input is not [name, type, sizes, example].")
    name, dtype, sizes, example = entry
    sound = isinstance(name, str) and isinstance(sizes, list) and isinstance(example, list)
    sound = sound and len(sizes) == len(example) <= _MOST_AXES
    sound = sound and all(type(n) is int and 0 <= n < 1 << 31 for n in example)
    if not sound or any(n not in (None, m) for n, m in zip(sizes, example, strict=True)):
        raise ConfigurationError(f"the input {name!r} has no sound sizes.")
    return GraphInput(name, _dtype(dtype), tuple(sizes), tuple(example))


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _dtype(name: Any) -> torch.dtype:
    if not isinstance(name, str) or name not in _DTYPES:
        raise unknown("type", name, _DTYPES)
    return _DTYPES[name]


def _encode(value: Any) -> Any:
    if isinstance(value, Ref):
        return {"ref": value.name}
    if isinstance(value, Record):
        values = {key: _encode(item) for key, item in value.values.items()}
        return {"record": [value.kind, value.name, values]}
    if isinstance(value, torch.dtype):
        return {"dtype": _name(value)}
    if isinstance(value, torch.memory_format):
        return {"memory": str(value).removeprefix("torch.")}
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    if isinstance(value, complex):
        return {"complex": [_encode(value.real), _encode(value.imag)]}
    if isinstance(value, tuple):
        return {"tuple": [_encode(item) for item in value]}
    if isinstance(value, list):
        return [_encode(item) for item in value]
    if isinstance(value, dict):
        return {"dict": {key: _encode(item) for key, item in value.items()}}
    return value


def decoded(value: Any, other: Callable[[str, Any], Any] | None = None) -> Any:
    """Return plain data as what it stands for.

    Args:
        value: lists, numbers, strings, and mappings of one kind to its content.
        other: decodes kinds beside references, tuples and dicts, ``None`` for what it does not
            know; default those of graphs.

    Raises:
        ConfigurationError: for anything that :func:`describe_graph` would not write.
    """
    if isinstance(value, list):
        return [decoded(item, other) for item in value]
    if isinstance(value, (int, float)) and not abs(value) <= (
        _LARGEST if isinstance(value, int) else math.inf
    ):
        raise ConfigurationError(f"the graph holds the number {value}.")
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((kind, content),) = value.items()
        if kind == "ref" and isinstance(content, str):
            return Ref(content)
        if kind == "tuple" and isinstance(content, list):
            return tuple(decoded(item, other) for item in content)
        if kind == "dict" and isinstance(content, dict):
            return {key: decoded(item, other) for key, item in content.items()}
        found = (other or _special)(kind, content)
        if found is not None:
            return found
    raise ConfigurationError(f"the argument {str(value)[:80]} is not known.")


def _special(kind: str, content: Any) -> Any:
    """Return types, memory formats, numbers and records."""
    if kind == "dtype":
        return _dtype(content)
    if kind == "memory" and isinstance(content, str) and content in _FORMATS:
        return _FORMATS[content]
    if kind == "float" and content in ("inf", "-inf", "nan"):
        return float(content)
    if kind == "complex" and isinstance(content, list) and len(content) == 2:
        parts = [decoded(part) for part in content]
        return complex(*parts) if all(type(part) in (int, float) for part in parts) else None
    if kind == "record" and isinstance(content, list) and len(content) == 3:
        record, name, values = content
        known = record in ("namedtuple", "record") and isinstance(name, str)
        if known and isinstance(values, dict):
            return Record(record, name, {key: decoded(item) for key, item in values.items()})
    return None
