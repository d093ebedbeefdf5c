"""Which trials are worked on together, and by how many threads: as memory and cores allow."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from ste_lightning.errors import require

__all__ = ["Chunk", "cores", "plan", "work_through"]

Chunk = tuple[int, int]
"""Number of the first trial, and how many."""

_Done = TypeVar("_Done")


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def plan(
    trials: int, bytes_per_trial: int, workers: int, memory: float, pieces: int = 1
) -> tuple[int, list[Chunk]]:
    """Return how many threads work, and their chunks.

    Args:
        trials: to be shared out.
        bytes_per_trial: what one takes while it is in work.
        workers: threads at most; fewer where memory is too small for a trial each.
        memory: GiB for all that is in work together.
        pieces: chunks per worker, where there are trials enough: more of them end together,
            fewer have less to prepare.

    Raises:
        ConfigurationError: if a single trial needs more than ``memory``.
    """
    fitting = int(memory * 2**30 / bytes_per_trial)
    remedy = f"a single trial takes {bytes_per_trial / 2**30:.3g} GiB while it is in work; "
    remedy += "use fewer samples, or more memory"
    require(fitting > 0, "memory", memory, remedy)
    workers = min(workers, fitting)
    size = min(fitting // workers, -(-trials // (pieces * workers)))
    return workers, [(first, min(size, trials - first)) for first in range(0, trials, size)]


def work_through(
    work: Callable[[Chunk], _Done], chunks: list[Chunk], workers: int
) -> Iterator[tuple[Chunk, _Done]]:
    """Yield every chunk with what ``work`` returned for it, in their order."""
    if workers == 1 or len(chunks) == 1:
        yield from ((chunk, work(chunk)) for chunk in chunks)
        return
    with ThreadPoolExecutor(workers) as pool:
        yield from zip(chunks, pool.map(work, chunks), strict=True)
