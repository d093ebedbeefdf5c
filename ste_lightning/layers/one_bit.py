"""Which layers train with one bit per activation."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

from ste_lightning.functional.one_bit_specification import ConvolutionGeometry, OneBitProduct
from ste_lightning.quantizers import Sign, Step

__all__ = ["compiles_one_bit", "is_observed", "one_bit_specification"]


def compiles_one_bit(x: Tensor) -> bool:
    """Return whether ``torch.compile``, which is at work, may use operators of ours."""
    return not (torch.compiler.is_exporting() or torch.is_autocast_enabled(x.device.type))


def is_observed(module: nn.Module) -> bool:
    """Return whether somebody must see the calls of the module."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or _has_any_global_hook()  # type: ignore[no-untyped-call]
    )


def one_bit_specification(
    weights: nn.Module | None,
    inputs: nn.Module | None,
    dtype: torch.dtype,
    geometry: ConvolutionGeometry | None = None,
) -> OneBitProduct | None:
    """Return what the one-bit product needs to know of the two quantizers, or ``None``.

    Args:
        weights: the layer's weight quantizer.
        inputs: its input quantizer, or ``None`` for float inputs.
        dtype: the input's dtype.
        geometry: of a convolution; ``None`` for a linear layer.
    """
    if type(weights) is not Sign or is_observed(weights) or "strength" in weights._buffers:
        return None
    if weights.scale != "none" and not weights.detach_scale:
        return None
    if inputs is None:
        return OneBitProduct(None, None, weights.rule, geometry)
    if type(inputs) is Sign:
        if inputs.scale != "none":
            return None
    elif type(inputs) is not Step:
        return None
    if is_observed(inputs) or "strength" in inputs._buffers:
        return None
    rule = inputs.rule
    # a compiler cannot look for the window's exact bounds; it asks its operators
    if not torch.compiler.is_compiling() and not OneBitProduct.remembers_bits(rule, dtype):
        return None
    return OneBitProduct(inputs.map_name, rule, weights.rule, geometry)
