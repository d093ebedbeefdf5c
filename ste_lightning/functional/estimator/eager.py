"""When nobody but autograd looks at the operations: only then are they replaced by faster ones."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad

__all__ = ["is_plain_eager"]

# bound once: these checks run at every call of every layer
_tracing_state = torch._C._get_tracing_state
_transforms = torch._C._are_functorch_transforms_active
_modes = torch._C._len_torch_dispatch_stack
_overrides = torch._C._has_torch_function_unary
_any_autocast = torch._C._is_any_autocast_enabled
_autocast = torch.is_autocast_enabled


def is_plain_eager(x: Tensor) -> bool:
    """Return whether nothing is at work but autograd.

    Compilation, tracing, export, vmap, forward-mode derivatives, autocast and tensor subclasses
    must see plain operations.

    Args:
        x: the tensor that is about to be computed with.
    """
    return not (
        torch.compiler.is_compiling()
        or _tracing_state() is not None
        or _transforms()
        or _overrides(x)
        or _modes() > 0
        or forward_ad._current_level >= 0
        or (_any_autocast() and _autocast("cpu" if x.is_cpu else x.device.type))
    )
