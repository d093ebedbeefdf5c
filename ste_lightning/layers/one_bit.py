"""Which layers train with one bit per activation."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

from ste_lightning.functional.one_bit import OneBitProduct
from ste_lightning.functional.surrogate import Surrogate
from ste_lightning.quantizers import Sign, Step

__all__ = ["compiles_one_bit", "is_plain_eager", "one_bit_specification"]

Inputs = tuple[str | None, Surrogate | None]
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def is_plain_eager(x: Tensor) -> bool:
    """Return whether nothing but autograd looks at the operations on ``x``."""
    return not (
        torch.compiler.is_compiling()
        or torch._C._get_tracing_state() is not None
        or torch._C._are_functorch_transforms_active()
        or torch.is_autocast_enabled(x.device.type)
        or torch.overrides.has_torch_function((x,))
        or torch._C._len_torch_dispatch_stack() > 0
    )


def compiles_one_bit(x: Tensor) -> bool:
    """Return whether ``torch.compile`` is at work, and may use operators of ours."""
    return (
        torch.compiler.is_compiling()
        and not torch.compiler.is_exporting()
        and not torch.is_autocast_enabled(x.device.type)
    )


def _is_observed(module: nn.Module) -> bool:
    """Return whether somebody must see the calls of the module."""
    return any(getattr(module, hooks) for hooks in _HOOKS) or _has_any_global_hook()  # type: ignore[no-untyped-call]


def one_bit_specification(
    weights: nn.Module | None, inputs: nn.Module | None, dtype: torch.dtype
) -> tuple[Sign, Inputs] | None:
    """Return the two quantizers as the one-bit product needs them, or ``None``.

    Args:
        weights: the layer's weight quantizer.
        inputs: its input quantizer, or ``None`` for float inputs.
        dtype: the input's dtype.
    """
    if type(weights) is not Sign or _is_observed(weights) or isinstance(weights.strength, Tensor):
        return None
    if weights.scale != "none" and not weights.detach_scale:
        return None
    if inputs is None:
        return weights, (None, None)
    if type(inputs) not in (Sign, Step) or _is_observed(inputs):
        return None
    assert isinstance(inputs, (Sign, Step))
    if isinstance(inputs, Sign) and inputs.scale != "none":
        return None
    if isinstance(inputs.strength, Tensor):
        return None
    rule = inputs.rule
    # a compiler cannot look for the window's exact bounds; it asks its operators
    if not torch.compiler.is_compiling() and not OneBitProduct.remembers_bits(rule, dtype):
        return None
    return weights, (inputs.map_name, rule)
