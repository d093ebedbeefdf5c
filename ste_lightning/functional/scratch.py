"""Memory for tensors that do not outlive a call: quantized weights of a forward product.

Fresh memory of some megabytes costs as much as the pass that fills it.
"""

from __future__ import annotations

import threading

import torch
from torch import Tensor

__all__ = ["scratch_like"]

_MOST = 1 << 26  # bytes that a thread keeps


class _Room(threading.local):
    def __init__(self) -> None:
        self.octets = torch.empty(0, dtype=torch.uint8)


_room = _Room()


def scratch_like(x: Tensor) -> Tensor:
    """Return an uninitialized, contiguous tensor of the shape, dtype and device of ``x``.

    On the CPU, and up to 64 MiB, its memory is that of this thread's last call: it must be done
    with before the next one, and must be neither returned nor saved for a backward pass.
    """
    size = x.numel() * x.element_size()
    if not x.is_cpu or size > _MOST:
        return torch.empty_like(x, memory_format=torch.contiguous_format)
    if len(_room.octets) < size:
        with torch.inference_mode(False):  # else nobody could write to it in training
            _room.octets = torch.empty(size, dtype=torch.uint8)
    return _room.octets[:size].view(x.dtype).view(x.shape)
