"""Layers that a wildcard must not reach: binarizing them is never what ``*`` was meant for."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import nn

from ste_lightning.convert.structure import float_class

__all__ = ["frozen_layers", "set_apart", "tied_layers"]

_ADAPTER = re.compile(r"lora|adapters?(_|$)", re.IGNORECASE)
_POSITION = re.compile(
    r"^(wpe|pe|abs_pos\w*|rel(ative)?_(pos|att)\w*|distance_embedding|(embed_)?pos(ition(al|s)?)?)"
    r"(_?(emb\w*|enc\w*|table|ids?))?$",
    re.IGNORECASE,
)


def set_apart(layers: Mapping[str, nn.Module]) -> dict[str, str]:
    """Return the adapters (LoRA) and the embeddings of positions, known by their names, and why.

    Args:
        layers: all quantizable layers by name.
    """
    apart = {}
    for name, layer in layers.items():
        parts = name.split(".")
        if any(_ADAPTER.match(part) for part in parts):
            apart[name] = "an adapter"
        elif isinstance(layer, nn.Embedding) and any(_POSITION.match(p) for p in parts[-2:]):
            apart[name] = "an embedding of positions"
    return apart


def tied_layers(layers: Mapping[str, nn.Module]) -> dict[str, str]:
    """Return the layers whose weight a layer of another kind shares, as a tied head does."""
    owners: dict[int, list[str]] = {}
    for name, layer in layers.items():
        weight = layer._parameters.get("weight")
        if weight is not None:
            owners.setdefault(id(weight), []).append(name)
    tied = {}
    for names in owners.values():
        for name in names:
            others = [n for n in names if float_class(layers[n]) is not float_class(layers[name])]
            if others:
                tied[name] = f"it shares its weight with {others[0]}"
    return tied


def frozen_layers(layers: Mapping[str, nn.Module]) -> dict[str, str]:
    """Return the layers of which no parameter is trained, and what to say of them."""
    return {
        name: "it is frozen, like a teacher"
        for name, layer in layers.items()
        if not any(parameter.requires_grad for parameter in layer.parameters())
    }
