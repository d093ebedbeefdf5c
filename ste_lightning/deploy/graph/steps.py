"""The steps that connect a packed network's layers, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

__all__ = ["Ref", "Step", "flattens", "references"]


@dataclass(frozen=True)
class Ref:
    """The result of an earlier step, by name."""

    name: str


@dataclass(frozen=True)
class Step:
    """One step: ``result = op(*args, **kwargs)``.

    Attributes:
        result: the name under which later steps refer to the result.
        op: ``"layer"`` (then ``target`` is a layer's name), ``"function"`` (a key of
            ``FUNCTIONS``), or ``"run"`` (of layers between which bits pass; never in a file).
        target: what to call.
        args, kwargs: plain values and :class:`Ref`.
    """

    result: str
    op: str
    target: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def references(value: Any) -> list[str]:
    """Return the names of the results that a step's argument refers to."""
    if isinstance(value, Ref):
        return [value.name]
    if isinstance(value, slice):
        return references((value.start, value.stop, value.step))
    if isinstance(value, Mapping):
        return [name for item in value.values() for name in references(item)]
    if isinstance(value, (list, tuple)):
        return [name for item in value for name in references(item)]
    return []


def flattens(step: Step, layers: Mapping[str, nn.Module]) -> bool:
    """Return whether a step flattens all axes but the first."""
    if step.op == "layer":
        module = layers[step.target]
        plain = len(step.args) == 1 and not step.kwargs
        return (
            plain and type(module) is nn.Flatten and (module.start_dim, module.end_dim) == (1, -1)
        )
    if step.target not in ("flatten", ".flatten") or not step.args:
        return False
    return (step.args[1:], step.kwargs) in (((1,), {}), ((), {"start_dim": 1}))
