"""The latent weights of a model, and the grid levels on which they lie."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from ste_lightning.convert.structure import clean_name

__all__ = ["Latent", "grid_levels", "latents"]


@dataclasses.dataclass(frozen=True, eq=False)
class Latent:
    """One latent weight with its place in the model.

    Attributes:
        name: the layer's qualified name, without the prefix that ``torch.compile`` adds.
        weight: the parameter.
        quantizer: what the layer's forward pass applies to it.
        layer: the layer itself.
    """

    name: str
    weight: nn.Parameter
    quantizer: nn.Module
    layer: nn.Module

    def levels(self) -> tuple[Tensor, Tensor]:
        """Return the grid level of every element and the scale; see :func:`grid_levels`."""
        return grid_levels(self.quantizer, self.weight)


def latents(model: nn.Module) -> list[Latent]:
    """Return the latent weights of all layers with a weight quantizer, in the model's order.

    A weight that several layers share appears once, under the first layer's name.
    """
    found: dict[int, Latent] = {}
    for name, layer in model.named_modules():
        quantizer = getattr(layer, "weight_quantizer", None)
        weight = getattr(layer, getattr(layer, "latent_key", "weight"), None)
        if isinstance(quantizer, nn.Module) and isinstance(weight, nn.Parameter):
            found.setdefault(id(weight), Latent(clean_name(name), weight, quantizer, layer))
    return list(found.values())


@torch.no_grad()
def grid_levels(quantizer: nn.Module, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return integer levels and a scale with ``quantizer(weight) = levels * scale``.

    Args:
        quantizer: a quantizer; one without ``integer_levels`` counts as sign-valued, its levels
            are the signs -1, 0, +1 of its values.
        weight: latent weights of any shape.

    Returns:
        The levels as int32 in the shape of ``weight``, and the scale, broadcastable to it.
    """
    integer_levels = getattr(quantizer, "integer_levels", None)
    if integer_levels is not None:
        levels, scale = integer_levels(weight.detach())
        return levels.to(torch.int32), torch.as_tensor(scale, device=weight.device)
    values: Tensor = quantizer(weight.detach())
    return values.sign().to(torch.int32), values.abs()
