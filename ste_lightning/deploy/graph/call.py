"""A module's call as a function of tensors alone, which an exporter can follow."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ste_lightning.deploy.graph.simple_sizes import SimpleSizes
from ste_lightning.deploy.graph.steps import Ref
from ste_lightning.deploy.graph.trees import assembled, dissected
from ste_lightning.deploy.graph.whole_operators import WholeOperators

__all__ = ["Call", "arguments_of", "kept_tensors"]

_PLACES = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def arguments_of(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Return the given arguments of a module's forward method by name, in its order.

    Raises:
        TypeError: for arguments that it does not take.
    """
    bound = inspect.signature(module.forward).bind(*args, **kwargs)
    found: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        kind = bound.signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            found |= {f"*{name}{i}": item for i, item in enumerate(value)}
        elif kind is inspect.Parameter.VAR_KEYWORD:
            found |= value
        else:
            found[name] = value
    return found


class _Seen:
    """What a call returned, and numbers it may read; exporters look at attributes of modules."""

    def __init__(self, module: nn.Module) -> None:
        self.output: Any = None
        self.classes: dict[str, type] = {}
        self.numbers = {
            name: tensor.item()
            for name, tensor in kept_tensors(module).items()
            if tensor.numel() == 1
        }


class Call(nn.Module):
    """A module's call with the tensors among its arguments alone, returning tensors alone."""

    def __init__(self, module: nn.Module, arguments: dict[str, Any], classes: dict[str, type]):
        super().__init__()
        self.module, self.arguments, self.classes = module, arguments, classes
        self.seen = _Seen(module)

    def forward(self, *leaves: Tensor) -> list[Any]:
        """Return the tensors of the result."""
        given = assembled(self.arguments, lambda ref: leaves[int(ref.name[5:])], self.classes)
        named = {key: value for key, value in given.items() if not key.startswith("*")}
        rest = [value for key, value in given.items() if key.startswith("*")]
        kept, known = kept_tensors(self.module), self.seen.numbers
        numbers = {id(kept[name]): number for name, number in known.items()}
        with WholeOperators(numbers), SimpleSizes():
            if rest:
                y = self.module(*[named.pop(key) for key in list(named) if rest], *rest)
            else:
                y = _called(self.module, named)
        found: list[Any] = []

        def leaf(tensor: Any) -> Ref:
            found.append(tensor)
            return Ref(str(len(found) - 1))

        self.seen.output = dissected(y, leaf, self.seen.classes)
        return found


def kept_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return a module's parameters and buffers by name."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _called(module: nn.Module, named: dict[str, Any]) -> Any:
    """Call a module with its arguments by name; those that only have places, by place."""
    places: list[Any] = []
    for name, parameter in inspect.signature(module.forward).parameters.items():
        if parameter.kind not in _PLACES or name not in named:
            break  # what has a place is given by place, as hooks expect it
        places.append(named.pop(name))
    return module(*places, **named)
