"""Which layers train by products of bits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from ste_lightning.functional.products.specification import ConvolutionGeometry, OneBitProduct
from ste_lightning.quantizers import Sign, Step

__all__ = ["Settled", "compiles_one_bit", "is_plain", "one_bit_specification"]


def _may_export() -> bool:
    """Take the place of ``torch.compiler.is_exporting``, which torch 2.6 does not have."""
    return True


_is_exporting = getattr(torch.compiler, "is_exporting", _may_export)


def compiles_one_bit(x: Tensor) -> bool:
    """Return whether ``torch.compile``, which is at work, may use operators of ours."""
    return not (_is_exporting() or torch.is_autocast_enabled(x.device.type))


def _has_hooks(module: nn.Module) -> bool:
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )


def _has_any_global_hook() -> bool:
    """Return whether a hook is registered for all modules; torch 2.6 has no such function."""
    return bool(
        torch_module._global_forward_pre_hooks
        or torch_module._global_forward_hooks
        or torch_module._global_backward_pre_hooks
        or torch_module._global_backward_hooks
    )


def is_observed(module: nn.Module) -> bool:
    """Return whether somebody must see the calls of the module."""
    return _has_hooks(module) or _has_any_global_hook()


def is_plain(quantizer: nn.Module) -> bool:
    """Return whether nobody must see the quantizer's calls and nothing drives its strength."""
    return not is_observed(quantizer) and "strength" not in quantizer._buffers


class Settled:
    """The specification of a linear layer's last call, and what must not have changed since.

    It is found again in a third of the time that it takes to make it. Copies and pickles of the
    layer do without.
    """

    __slots__ = ("dtype", "inputs", "spec", "weights")

    def __init__(
        self, weights: nn.Module, inputs: nn.Module | None, dtype: torch.dtype, spec: OneBitProduct
    ) -> None:
        self.weights, self.inputs, self.dtype, self.spec = weights, inputs, dtype, spec

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        return type(None), ()

    def holds(self, weights: Any, inputs: Any, dtype: torch.dtype) -> bool:
        """Return whether nobody has changed the quantizers: unscaled, without buffers or hooks."""
        return bool(
            weights is self.weights
            and inputs is self.inputs
            and dtype is self.dtype
            and type(weights) is Sign
            and weights._rule is self.spec.weight_rule
            and weights.scale == "none"
            and not (weights._buffers or _has_hooks(weights))
            and (inputs is None or self._holds_inputs(inputs))
            and not _has_any_global_hook()
        )

    def _holds_inputs(self, inputs: Any) -> bool:
        kind = type(inputs)
        return (
            ((kind is Sign and inputs.scale == "none") or kind is Step)
            and inputs._rule is self.spec.input_rule
            and inputs.map_name == self.spec.input_map
            and not (inputs._buffers or _has_hooks(inputs))
        )


def one_bit_specification(
    weights: nn.Module | None,
    inputs: nn.Module | None,
    geometry: ConvolutionGeometry | None = None,
) -> OneBitProduct | None:
    """Return what the one-bit product needs to know of the two quantizers, or ``None``.

    Args:
        weights: the layer's weight quantizer.
        inputs: its input quantizer, or ``None`` for float inputs.
        geometry: of a convolution; ``None`` for a linear layer.
    """
    if type(weights) is not Sign or not is_plain(weights):
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
    if not is_plain(inputs):
        return None
    return OneBitProduct(inputs.map_name, inputs.rule, weights.rule, geometry)
