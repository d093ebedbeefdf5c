"""sign(ReLU(x)) is the constant +1: what to do about a ReLU that feeds a binary input."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from ste_lightning.convert.nonnegative import Source, is_relu
from ste_lightning.convert.structure import clean_name, find_module
from ste_lightning.errors import ConfigurationError
from ste_lightning.layers import RPReLU
from ste_lightning.quantizers import bits_of, describe

__all__ = ["blind_to_nonnegative", "replace_relu", "restore_relus"]

_ORIGINAL = "_ste_lightning_replaces"


def blind_to_nonnegative(quantizer: nn.Module | None) -> bool:
    """Return whether a binary quantizer gives the same value for every input >= 0.

    True for ``sign``, false for ``step`` and for a sign with a threshold above zero.
    """
    if quantizer is None or bits_of(quantizer) > 1:
        return False
    probe = torch.tensor([[0.0, 0.1, 0.5, 1.0, 3.0, 10.0, 100.0, 1e4]])
    try:
        with torch.no_grad():
            values = copy.deepcopy(quantizer).cpu().float().eval()(probe)
    except RuntimeError:  # a quantizer for inputs of another shape: only its data can tell
        return False
    return bool((values == values.flatten()[0]).all())


def replace_relu(
    model: nn.Module, source: Source, choice: str, layer: str, quantizer: nn.Module
) -> str:
    """Exchange one ReLU for the policy's choice and return the report's line about it.

    Args:
        model: the model that contains it.
        source: where it is.
        choice: ``"hardtanh"``, ``"rprelu"`` or ``"identity"``.
        layer: the name of the layer it feeds, for messages.
        quantizer: that layer's input quantizer, for messages.

    Raises:
        ConfigurationError: for a ReLU called as a function inside a ``forward``, which cannot
            be exchanged, and for ``"rprelu"`` where the number of channels is not known.
    """
    owner = find_module(model, source.owner)
    if source.is_module:
        if not is_relu(owner):
            return ""  # exchanged before, for another layer
        _register(model, owner, _substitute(source, choice, layer, bool(owner.inplace)))
        return f"{source.owner}: ReLU -> {choice}, because {layer} takes the sign of its output"
    for name, value in [*vars(owner).items(), *owner.named_children()]:
        if is_relu(value):
            substitute = _substitute(source, choice, layer, inplace=False)
            substitute.__dict__[_ORIGINAL] = value
            vars(owner).pop(name, None)  # a function; modules live elsewhere
            setattr(owner, name, substitute)
            where = f"{source.owner}.{name}".lstrip(".")
            return f"{where}: ReLU -> {choice}, because {layer} takes the sign of its output"
    if getattr(owner, "_modules", {}) and any(
        _ORIGINAL in vars(child) for child in owner.children()
    ):
        return ""
    raise ConfigurationError(
        f"the input of {layer!r} is a ReLU called as a function in the forward of "
        f"{source.owner or type(owner).__name__!r}, so its quantizer {describe(quantizer)!r} "
        "would give the constant +1. Make it a module (self.relu = nn.ReLU()), which is then "
        "replaced, or give the layer `input: step`, or put batch norm between them."
    )


def restore_relus(model: nn.Module) -> list[str]:
    """Put every exchanged ReLU back and return the names of their places."""
    restored = []
    for path, module in list(model.named_modules()):
        for name, child in list(module.named_children()):
            if _ORIGINAL not in vars(child):
                continue
            original = vars(child)[_ORIGINAL]
            if not isinstance(original, nn.Module):
                delattr(module, name)
            elif original.training != child.training:
                original.train(child.training)
            setattr(module, name, original)
            restored.append(clean_name(f"{path}.{name}".lstrip(".")))
    return restored


def _register(model: nn.Module, relu: nn.Module, substitute: nn.Module) -> None:
    """Put ``substitute`` wherever ``relu`` is registered, also under several names."""
    substitute.train(relu.training)
    substitute.__dict__[_ORIGINAL] = relu
    for module in list(model.modules()):
        for name, child in list(module._modules.items()):
            if child is relu:
                module._modules[name] = substitute


def _substitute(source: Source, choice: str, layer: str, inplace: bool) -> Any:
    if choice == "identity":
        return nn.Identity()
    if choice == "hardtanh":
        return nn.Hardtanh(inplace=inplace)
    if source.channels is None:
        raise ConfigurationError(
            f"relu='rprelu' cannot be used before {layer!r}: the number of channels of "
            f"{source.owner!r} is not known. Pass a sample input, or choose 'hardtanh'."
        )
    return RPReLU(source.channels)
