"""When nobody but autograd looks at the operations: only then are they replaced by faster ones."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.autograd import forward_ad

from ste_lightning.errors import ConfigurationError

__all__ = [
    "autocast_dtype",
    "is_backward",
    "is_eager",
    "is_plain_eager",
    "no_view",
    "untraced",
]

_Function = TypeVar("_Function", bound=Callable[..., Any])

# bound once: these checks run at every call of every layer
_tracing_state = torch._C._get_tracing_state
_transforms = torch._C._are_functorch_transforms_active
_modes = torch._C._len_torch_dispatch_stack
_mode = torch._C._get_dispatch_mode
_PROXY = torch._C._TorchDispatchModeKey.PROXY
_overrides = torch._C._has_torch_function_unary
_any_autocast = torch._C._is_any_autocast_enabled
_autocast = torch.is_autocast_enabled


def is_eager(x: Tensor) -> bool:
    """Return whether nothing is at work but autograd and, perhaps, autocast.

    Compilation, tracing, export, vmap, forward-mode derivatives and tensor subclasses must see
    plain operations.

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
    )


def autocast_dtype(x: Tensor) -> torch.dtype | None:
    """Return the dtype in which autocast multiplies ``x``; ``None`` where none is at work."""
    if not _any_autocast():
        return None
    device = "cpu" if x.is_cpu else x.device.type
    return torch.get_autocast_dtype(device) if _autocast(device) else None


def is_plain_eager(x: Tensor) -> bool:
    """Return whether nothing is at work but autograd, autocast neither."""
    return is_eager(x) and autocast_dtype(x) is None


def untraced(function: _Function) -> _Function:
    """Decorator: ``torch.compile`` calls the function as it is and does not look inside.

    Machine code takes the addresses of tensors. A compiler that cuts a function in two after an
    address was taken drops the tensor, whose memory then holds something else. Recording the
    operations (``torch.jit.trace``, ``make_fx``) is refused: they would not be in the record.

    Raises:
        ConfigurationError: by the decorated function, when its operations are recorded.
    """

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            outside: Any = torch.compiler.disable(function)  # type: ignore[no-untyped-call]
            return outside(*args, **kwargs)
        if _tracing_state() is not None or (_modes() > 0 and _mode(_PROXY) is not None):
            raise ConfigurationError(
                "machine code cannot be recorded by torch.jit.trace or make_fx; "
                "use deploy.export, whose network has torch's operations."
            )
        return function(*args, **kwargs)

    return call  # type: ignore[return-value]


def is_backward() -> bool:
    """Return whether a backward pass is at work, in which activations are computed again."""
    return bool(torch._C._current_graph_task_id() != -1)


def no_view(y: Tensor) -> Tensor:
    """Return ``y`` with the same memory as a tensor of its own.

    Autograd forbids changing a custom function's result in place where that is a view, as torch's
    product of a linear layer with more than one axis of rows is.
    """
    return y.data if y._is_view() else y
