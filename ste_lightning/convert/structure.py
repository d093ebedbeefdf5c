"""What a network looks like from its layers: their order, and which ReLU feeds which layer."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ste_lightning.convert.nonnegative import Origins, Source
from ste_lightning.layers import QuantizedLayer, quantized_class

__all__ = [
    "Structure",
    "clean_name",
    "find_module",
    "float_class",
    "plain_class",
    "quantizable_layers",
    "tensors",
]


@dataclasses.dataclass
class Structure:
    """Layers in the order in which they run, and the ReLUs whose outputs reach their inputs.

    Attributes:
        order: the names of the quantizable layers, each once.
        feeds: layer name -> ReLUs that make its whole input nonnegative.
    """

    order: list[str] = dataclasses.field(default_factory=list)
    feeds: dict[str, set[Source]] = dataclasses.field(default_factory=dict)

    def enter(self, name: str, origins: Origins) -> None:
        """Note that the layer ``name`` runs on an input of these origins."""
        if name not in self.order:
            self.order.append(name)
        self.feeds.setdefault(name, set()).update(origins)


def float_class(layer: nn.Module) -> type[nn.Module] | None:
    """Return the float class that ``layer`` is, or was before conversion, if quantizable.

    Subclasses with a ``forward`` of their own are not quantizable: swapping would lose it.
    """
    if isinstance(layer, QuantizedLayer):
        return layer.float_class
    cls = plain_class(layer)
    return cls if quantized_class(cls) is not None else None


def plain_class(layer: nn.Module) -> type[nn.Module]:
    """Return the layer's class without torch's parametrizations."""
    if torch.nn.utils.parametrize.is_parametrized(layer):
        return torch.nn.utils.parametrize.type_before_parametrizations(layer)
    return type(layer)


def quantizable_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Return the layers that can be or are quantized by name, in the order of registration.

    Children of such a layer belong to it and are not listed.
    """
    found: dict[str, nn.Module] = {}

    def visit(name: str, module: nn.Module, seen: set[nn.Module]) -> None:
        if module in seen:
            return
        seen.add(module)
        if float_class(module) is not None:
            found[name] = module
            return
        for child_name, child in module.named_children():
            if child_name == "_orig_mod":  # torch.compile's wrapper is no part of the name
                visit(name, child, seen)
            else:
                visit(f"{name}.{child_name}" if name else child_name, child, seen)

    visit("", model, set())
    return found


def clean_name(name: str) -> str:
    """Return a module's name without the wrappers of ``torch.compile`` in it."""
    return ".".join(part for part in name.split(".") if part != "_orig_mod")


def find_module(model: nn.Module, name: str) -> nn.Module:
    """Return the module of a clean name, the inner one of a compiled module."""
    for part in ["", *name.split(".")]:
        model = model.get_submodule(part)
        while "_orig_mod" in model._modules:
            model = model.get_submodule("_orig_mod")
    return model


def tensors(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in nested arguments or results, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors(item)
