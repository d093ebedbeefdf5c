"""Rows of the table of packed inference: candidates take turns, and ratios are of single rounds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

Call = Callable[[], object]
FLOAT, INT8, OURS = "float32", "int8", "packed"


class Table(NamedTuple):
    """Where rows are printed.

    Attributes:
        seconds: to spend on a row.
        top: the peak of counting, in 10^9 operations/s.
        wanted: parts of the names of rows to time; none for all.
    """

    seconds: float
    top: float
    wanted: tuple[str, ...] = ()

    def wants(self, name: str) -> bool:
        """Return whether a row is to be timed."""
        return not self.wanted or any(part in name for part in self.wanted)

    def row(self, name: str, operations: float, calls: dict[str, Call]) -> None:
        """Time and print one row."""
        times = rounds(calls, self.seconds)
        medians = {key: statistics.median(value) for key, value in times.items()}
        speed = operations / medians[OURS] / 1e9
        others = ", ".join(f"{k} {v * 1e6:.0f}" for k, v in medians.items() if k != OURS)
        print(
            f"| {name} | {medians[OURS] * 1e6:.1f} | {speed:.0f} | {speed / self.top:.0%} | "
            f"{ratio(times, FLOAT)} | {ratio(times, INT8)} | {others} |",
            flush=True,
        )


def rounds(calls: dict[str, Call], seconds: float) -> dict[str, list[float]]:
    """Return the CPU seconds of one call, per candidate and round."""
    repeats = {}
    for name, call in calls.items():
        call()
        start = time.process_time()
        call()
        repeats[name] = max(1, int(2e-3 / max(time.process_time() - start, 1e-6)))
    found: dict[str, list[float]] = {name: [] for name in calls}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(found[next(iter(found))]) < 5:
        for name, call in calls.items():
            call()  # so that no candidate pays for what the one before left in the caches
            start = time.process_time()
            for _ in range(repeats[name]):
                call()
            found[name].append((time.process_time() - start) / repeats[name])
    return found


def ratio(times: dict[str, list[float]], kind: str) -> str:
    """Return the best candidate of a kind over ours, as a median of rounds."""
    names = [name for name in times if name.startswith(kind)]
    if not names:
        return "-"
    best = min(names, key=lambda name: statistics.median(times[name]))
    pairs = zip(times[best], times[OURS], strict=True)
    return f"{statistics.median(a / b for a, b in pairs):.1f}x"
