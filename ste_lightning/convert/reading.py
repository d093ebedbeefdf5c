"""Read a network's structure: from one run on a sample, or from a symbolic trace."""

from __future__ import annotations

from typing import Any

from torch import nn

from ste_lightning.convert.nonnegative import Source, is_relu
from ste_lightning.convert.recorded import record
from ste_lightning.convert.structure import Structure, clean_name, quantizable_layers
from ste_lightning.convert.traced import trace

__all__ = ["read_structure"]


def read_structure(model: nn.Module, sample: Any = None) -> Structure:
    """Return the order of the quantizable layers and the ReLUs that feed them.

    Args:
        model: any module; not changed.
        sample: an input of ``model`` (a tensor, or a tuple or dict of arguments); ``None``
            traces symbolically instead.
    """
    layers = quantizable_layers(model)
    structure = Structure()
    if sample is not None:
        record(model, layers, sample, structure)
    else:
        trace("", model, set(layers.values()), set(), structure)
        for name in layers:  # what no trace reached runs in an unknown place: keep its order
            if name not in structure.order:
                structure.order.clear()
                structure.order.extend(layers)
                break
    for name, module in model.named_modules():
        if isinstance(module, (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)) and (
            is_relu(module.activation)
        ):
            owner = clean_name(name)
            inner = f"{owner}.linear2" if owner else "linear2"
            structure.feeds.setdefault(inner, set()).add(Source(owner, False))
    return structure
