"""Memory that a thread lends to tensors that stay inside a layer: quantized operands.

Fresh memory of some megabytes costs as much as the pass that fills it. What was used last is lent
first, since the processor's cache may still have it.
"""

from __future__ import annotations

import math
import threading

import torch
from torch import Tensor

__all__ = ["Loan", "borrow", "borrow_like"]

_MOST = 1 << 26  # bytes that a thread keeps, lent or not
_SHAPES = 8  # of one block's tensors


class _Block:
    """Some bytes, and the tensors that were last made of them, which cost calls to make."""

    __slots__ = ("octets", "tensors")

    def __init__(self, size: int, device: torch.device) -> None:
        with torch.inference_mode(False):  # else nobody could write to it in training
            self.octets = torch.empty(size, dtype=torch.uint8, device=device)
        self.tensors: dict[tuple[tuple[int, ...], torch.dtype], Tensor] = {}


class _Pool(threading.local):
    def __init__(self) -> None:
        self.free: list[_Block] = []  # the last one was used last
        self.size = 0  # of all blocks, also those that are lent


_pool = _Pool()


class Loan:
    """Uninitialized memory, the holder's own for as long as this object lives.

    Attributes:
        tensor: what was asked for, contiguous. It must not outlive the loan, whose end hands its
            memory to the next borrower: it can be neither returned nor saved.
        is_kept: whether the memory is the thread's, which has a bound: only then may a loan wait
            for something, such as a backward pass.
    """

    __slots__ = ("_block", "_home", "is_kept", "tensor")

    def __init__(
        self, block: _Block, home: list[_Block] | None, shape: tuple[int, ...], dtype: torch.dtype
    ) -> None:
        self._block, self._home, self.is_kept = block, home, home is not None
        self.tensor = self.viewed(shape, dtype)

    def viewed(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return the memory, or its beginning, as a contiguous tensor."""
        tensors = self._block.tensors
        tensor = tensors.get((shape, dtype))
        if tensor is None:
            if len(tensors) >= _SHAPES:
                tensors.clear()
            with torch.inference_mode(False):
                octets = self._block.octets[: _size(shape, dtype)]
                tensor = tensors[shape, dtype] = octets.view(dtype).view(shape)
        return tensor

    def __del__(self) -> None:
        """Give the memory back to its thread, from whichever thread this is."""
        if self._home is not None:
            self._home.append(self._block)


def borrow(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Loan:
    """Return a loan of a tensor.

    On the CPU its memory is kept by this thread, up to 64 MiB for all loans together; it is fresh
    elsewhere and beyond.

    Args:
        shape, dtype, device: of the tensor.
    """
    size = _size(shape, dtype)
    block = _kept(size, device) if device.type == "cpu" else None
    if block is None:
        return Loan(_Block(size, device), None, shape, dtype)
    return Loan(block, _pool.free, shape, dtype)


def borrow_like(x: Tensor) -> Loan:
    """Return a loan of the shape, dtype and device of ``x``."""
    return borrow(x.shape, x.dtype, x.device)


def _size(shape: tuple[int, ...], dtype: torch.dtype) -> int:
    return math.prod(shape) * dtype.itemsize


def _kept(size: int, device: torch.device) -> _Block | None:
    """Return a block of at least ``size`` bytes, ``None`` if there is no room for it.

    Other threads only append to the list of free blocks.
    """
    free = _pool.free
    for place in range(len(free) - 1, -1, -1):
        if size <= len(free[place].octets) <= 2 * size:
            return free.pop(place)
    while free and _pool.size + size > _MOST:
        _pool.size -= len(free.pop(0).octets)
    if _pool.size + size > _MOST:
        return None
    _pool.size += size
    return _Block(size, device)
