"""From a trained model to a packed one."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ste_lightning.deploy.fusion.fold import fold_thresholds
from ste_lightning.deploy.graph.network import PackedNetwork
from ste_lightning.deploy.graph.trace import trace
from ste_lightning.deploy.lower.float_weights import PRECISIONS, store_floats
from ste_lightning.deploy.lower.layer import packed_layer
from ste_lightning.errors import ConfigurationError, unknown
from ste_lightning.layers import QuantizedLayer

__all__ = ["pack"]


@torch.no_grad()
def pack(
    model: nn.Module,
    *,
    floats: str = "float32",
    fold: bool = True,
    info: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Return an evaluation-only copy of a trained model whose quantized weights are packed.

    Integer parts compute the integers that the model computes; batch norm followed by the
    quantizer of the next layer becomes thresholds on them (see
    ``deploy.fusion.fold``). What stays in float is computed by the same torch modules. The model
    itself is not changed.

    Args:
        model: any module with quantized layers, such as a LightningModule after training.
        floats: how float layers keep their weights: ``"float32"``, ``"float16"`` (rounded once,
            computed in float32), or ``"int8"`` (linear layers and convolutions, one scale per
            output).
        fold: whether to fold batch norms into thresholds.
        info: plain data to keep with the network: ``classes`` (names), ``preprocessing``,
            ``input_shape``.

    Returns:
        A :class:`~ste_lightning.deploy.PackedNetwork` where the forward pass can be traced. Where
        it cannot, a copy of the model with packed layers, and a warning: it runs, but cannot be
        saved without its class.

    Raises:
        ConfigurationError: for a quantized layer without a packed form, with its name and the
            reason, or a model without quantized layers.
    """
    if floats not in PRECISIONS:
        raise unknown("floats", floats, PRECISIONS)
    names = [name for name, m in model.named_modules() if isinstance(m, QuantizedLayer)]
    if not any(_is_quantized(model.get_submodule(name)) for name in names):
        raise ConfigurationError(
            f"{type(model).__name__} has no quantized layer: nothing can be packed."
        )
    try:
        traced = trace(model)
    except ConfigurationError as error:
        warnings.warn(f"{error} The packed copy runs, but cannot be saved.", stacklevel=2)
        return _swapped(model, names)
    layers: dict[str, nn.Module] = {}
    for name, module in traced.layers.items():
        layers[name] = _converted(module, name)
    steps = traced.steps
    if fold:
        layers, steps, _ = fold_thresholds(layers, steps, traced.output)
    layers = {name: store_floats(layer, floats) for name, layer in layers.items()}
    return PackedNetwork(layers, steps, traced.inputs, traced.output, info)


def _is_quantized(layer: nn.Module) -> bool:
    assert isinstance(layer, QuantizedLayer)
    return layer.weight_quantizer is not None or layer.input_quantizer is not None


def _converted(module: nn.Module, name: str) -> nn.Module:
    """Return the packed or copied module, on the CPU, in eval mode."""
    if isinstance(module, QuantizedLayer):
        if not _is_quantized(module):
            return copy.deepcopy(module).cpu().to_float().eval()
        return packed_layer(module, name)
    copied = copy.deepcopy(module).cpu().eval()
    for parameter in copied.parameters():
        parameter.requires_grad_(False)
    return copied


def _swapped(model: nn.Module, names: list[str]) -> nn.Module:
    copied = copy.deepcopy(model).cpu().eval()
    for name in names:
        module = copied.get_submodule(name)
        if not isinstance(module, QuantizedLayer):  # a part of a layer that is packed already
            continue
        layer = _converted(module, name)
        if not name:
            return layer
        parent, _, child = name.rpartition(".")
        setattr(copied.get_submodule(parent), child, layer)
    for parameter in copied.parameters():
        parameter.requires_grad_(False)
    return copied
