"""Weights that are zero and whose quantizer has no zero: pruning is undone by a sign."""

from __future__ import annotations

from collections.abc import Container, Iterator

import torch
from torch import nn

from ste_lightning.convert.watch import Finding, named_quantized_layers
from ste_lightning.quantizers import describe

__all__ = ["lost_zeros"]

_FEW = 0.01  # the share of zeros below which they may be chance


@torch.no_grad()
def lost_zeros(model: nn.Module, among: Container[nn.Module] | None = None) -> Iterator[Finding]:
    """Yield the layers more than a hundredth of whose weights are zeros that do not stay zero.

    Args:
        model: a module with quantized layers.
        among: only these layers; ``None`` looks at all.
    """
    for name, layer in named_quantized_layers(model):
        if (among is not None and layer not in among) or layer.weight_quantizer is None:
            continue
        weight = layer.latent_weight()
        if weight.is_meta or weight.numel() == 0:
            continue
        zeros = weight == 0
        if float(zeros.float().mean()) <= _FEW:
            continue
        lost = float((zeros & (layer.quantized_weight() != 0)).float().mean())
        if lost > _FEW:
            kind = describe(layer.weight_quantizer)
            yield Finding(
                name,
                False,
                f"{lost:.0%} of the weights of layer {name!r} are zero (pruned?), and {kind} "
                "makes values other than zero of them. Use a quantizer that has a zero, such as "
                "'ternary', or leave the layer in float.",
            )
