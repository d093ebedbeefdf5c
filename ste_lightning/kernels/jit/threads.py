"""A pool of threads for compiled code that does not hold the GIL."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

__all__ = ["share", "shared_sum"]

_lock = threading.Lock()
_pools: dict[int, ThreadPoolExecutor] = {}


def _forget() -> None:
    """Forget the parent's pools in a forked child, where their threads do not exist."""
    global _lock
    _lock = threading.Lock()
    _pools.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _pool(workers: int) -> ThreadPoolExecutor:
    with _lock:
        if workers not in _pools:
            _pools[workers] = ThreadPoolExecutor(workers, thread_name_prefix="ste-lightning")
        return _pools[workers]


_PIECES = 4  # per thread, so that a thread that is held up leaves its share to the others


def share(work: Callable[[int, int], None], size: int, least: int, multiple: int = 1) -> None:
    """Call ``work(first, last)`` over 0..size, in ranges shared among torch's threads.

    Threads take one piece after another, since cores are rarely equally fast.

    Args:
        work: what to do with a range; must be safe to call from several threads.
        size: end of the whole range.
        least: shortest range worth a thread of its own.
        multiple: ranges begin at multiples of this.
    """
    workers = 1 if size < 2 * least else min(torch.get_num_threads(), size // max(least, 1))
    if workers <= 1:
        work(0, size)
        return
    pieces = min(_PIECES * workers, max(size // max(least, 1), workers))
    piece = -(-size // pieces)
    piece = -(-piece // multiple) * multiple
    waiting = deque(range(0, size, piece))

    def take() -> None:
        while True:
            try:
                first = waiting.popleft()
            except IndexError:
                return
            work(first, min(first + piece, size))

    futures = [_pool(workers - 1).submit(take) for _ in range(min(workers, len(waiting)) - 1)]
    try:
        take()
    finally:
        for future in futures:
            future.result()


def shared_sum(work: Callable[[int, int], Tensor], size: int, least: int) -> Tensor:
    """Return the sum of ``work(first, last)`` over ranges of 0..size, added in their order.

    Args: as of :func:`share`; every call returns a tensor of its own.
    """
    parts: dict[int, Tensor] = {}

    def part(first: int, last: int) -> None:
        parts[first] = work(first, last)

    share(part, size, least)
    total, *others = (parts[first] for first in sorted(parts))
    for other in others:
        total += other
    return total
