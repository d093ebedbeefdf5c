"""Calls that leave no trace in a module's buffers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

__all__ = ["unchanged"]


@contextmanager
def unchanged(module: nn.Module, without: type[nn.Module] | tuple[()] = ()) -> Iterator[None]:
    """Put back the buffers that calls inside change, such as averages that go on in eval.

    Args:
        module: called inside.
        without: parts of this class change none.
    """
    before = [
        (part, key, tensor, tensor.detach().clone())
        for part in module.modules()
        if not isinstance(part, without)
        for key, tensor in part._buffers.items()
        if tensor is not None
    ]
    try:
        yield
    finally:
        for part, key, tensor, value in before:
            part._buffers[key] = tensor
            if not torch.equal(tensor, value):
                tensor.detach().copy_(value)
