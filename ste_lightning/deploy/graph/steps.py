"""A network's graph as plain data: inputs, constants, and the steps that connect them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

__all__ = [
    "CONSTANT",
    "Graph",
    "GraphInput",
    "Record",
    "Ref",
    "Step",
    "applied",
    "filled",
    "references",
]

CONSTANT = "@"  # before the name of a parameter or buffer, where steps refer to it


@dataclass(frozen=True)
class Ref:
    """An input, a constant (``"@"`` and its name in the model) or the result of a step."""

    name: str


@dataclass(frozen=True)
class Step:
    """One step: ``result = op(*args, **kwargs)``.

    Attributes:
        result: the name under which later steps refer to the result.
        op: ``"layer"`` (then ``target`` is a packed layer's name), ``"function"`` (a name in
            :mod:`~ste_lightning.deploy.graph.operators`), or ``"run"`` (what a fusion made; never
            in a file).
        target: what to call.
        args, kwargs: plain values and :class:`Ref`.
    """

    result: str
    op: str
    target: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


@dataclass(frozen=True)
class GraphInput:
    """A tensor that a network takes.

    Attributes:
        name: how steps refer to it.
        dtype: its type.
        sizes: one per axis, ``None`` where it is free.
        example: the sizes with which the network was captured.
    """

    name: str
    dtype: torch.dtype
    sizes: tuple[int | None, ...]
    example: tuple[int, ...]


@dataclass(frozen=True)
class Record:
    """A named tuple (``kind="namedtuple"``) or another class with named values."""

    kind: str
    name: str
    values: dict[str, Any]


@dataclass(frozen=True)
class Graph:
    """What a network computes.

    Attributes:
        arguments: of the forward method, by name, in order: a tree of references to inputs and
            plain values, which a call must give again.
        inputs: the tensors among them.
        steps: in order.
        output: a tree of references and plain values.
    """

    arguments: dict[str, Any]
    inputs: tuple[GraphInput, ...]
    steps: tuple[Step, ...]
    output: Any

    def constants(self) -> list[str]:
        """Return the names of the parameters and buffers that are used, without the mark."""
        used = [references((step.args, step.kwargs)) for step in self.steps]
        names = [name for found in [*used, references(self.output)] for name in found]
        return list(dict.fromkeys(n[1:] for n in names if n.startswith(CONSTANT)))

    def layers(self) -> list[str]:
        """Return the names of the packed layers, in the order of their first calls."""
        return list(dict.fromkeys(step.target for step in self.steps if step.op == "layer"))


def references(value: Any) -> list[str]:
    """Return the names that a tree refers to."""
    if isinstance(value, Ref):
        return [value.name]
    if isinstance(value, Record):
        value = value.values
    if isinstance(value, Mapping):
        return [name for item in value.values() for name in references(item)]
    if isinstance(value, (list, tuple)):
        return [name for item in value for name in references(item)]
    return []


def filled(value: Any, of: Callable[[Ref], Any], record: Callable[[Record], Any]) -> Any:
    """Return a tree with something else in the place of references and records.

    Args:
        value: the tree.
        of: what takes the place of a reference.
        record: of a record, whose values are filled.
    """
    if isinstance(value, Ref):
        return of(value)
    if isinstance(value, Record):
        values = {key: filled(item, of, record) for key, item in value.values.items()}
        return record(Record(value.kind, value.name, values))
    if isinstance(value, dict):
        return {key: filled(item, of, record) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(filled(item, of, record) for item in value)
    return value


def applied(call: Callable[..., Any], step: Step, values: Mapping[str, Any]) -> Any:
    """Return what a function makes of a step's arguments.

    Args:
        call: the function.
        step: whose arguments it gets.
        values: what the references in them stand for, by name.
    """

    def put(tree: Any) -> Any:
        return filled(tree, lambda ref: values[ref.name], lambda record: record)

    return call(*put(step.args), **put(step.kwargs))
