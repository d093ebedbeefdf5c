"""Visits of whole sign patterns: when does a layer's pattern change, and does it come back?"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor

from ste_lightning.errors import require

__all__ = ["PatternHistory", "pattern_keys", "pattern_number"]


def pattern_keys(elements: int, seed: int = 0) -> Tensor:
    """Return one random 63-bit integer for each element of a layer, shape (elements,), int64."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(1 << 62, (elements,), generator=generator, dtype=torch.int64)


def pattern_number(levels: Tensor, keys: Tensor) -> Tensor:
    """Return a 0-d int64 number that identifies a pattern of levels.

    sum_i level_i key_i modulo 2^64 (Zobrist hashing): two different patterns share a number
    with probability about 2^-61.

    Args:
        levels: integers, any shape.
        keys: from :func:`pattern_keys`, one for each element.
    """
    return (levels.flatten() * keys).sum()


class PatternHistory:
    """What one layer's pattern did, step by step.

    A *flip step* changes the pattern. Among flip steps, an *escape* leaves a pattern and a
    *return* comes back to one that was seen before; the *return time* is the number of steps
    since that pattern was last left off, at least 1.

    Args:
        longest: how many different patterns to remember, the most recent ones; default 4096.

    Raises:
        ConfigurationError: for ``longest`` below 2.

    Source: the recurrence of arXiv 2505.18113 v2, with any pattern in the teacher's place.
    """

    def __init__(self, longest: int = 4096) -> None:
        require(longest > 1, "longest", longest, "use an integer above 1")
        self.longest = longest
        self.steps = self.escapes = self.returns = self.time_away = self.distinct = 0
        self._last: int | None = None
        self._seen: OrderedDict[int, list[int]] = OrderedDict()  # number -> [last step, visits]

    def update(self, number: int) -> None:
        """Take the pattern's number after the next step."""
        self.steps += 1
        known = self._seen.get(number)
        if self._last is not None and number != self._last:
            self.escapes += 1
            if known is not None:
                self.returns += 1
                self.time_away += self.steps - known[0] - 1
        if known is None:
            self.distinct += 1
            known = self._seen[number] = [0, 0]
            if len(self._seen) > self.longest:
                self._seen.popitem(last=False)
        known[0], known[1] = self.steps, known[1] + 1
        self._seen.move_to_end(number)
        self._last = number

    def summary(self) -> dict[str, float]:
        """Return the statistics so far.

        Returns:
            ``escape_rate`` and ``return_rate`` per step; ``return_time``, its mean (NaN without
            a return); ``distinct``, the number of different patterns; ``favourite``, the share
            of steps spent in the most visited pattern.
        """
        moves = max(self.steps - 1, 1)
        visits = max((entry[1] for entry in self._seen.values()), default=0)
        return {
            "escape_rate": self.escapes / moves,
            "return_rate": self.returns / moves,
            "return_time": self.time_away / self.returns if self.returns else float("nan"),
            "distinct": float(self.distinct),
            "favourite": visits / max(self.steps, 1),
        }

    def state_dict(self) -> dict[str, Any]:
        """Return counts and the patterns remembered, as plain numbers."""
        counts = {name: getattr(self, name) for name in _COUNTS}
        seen = [[number, *entry] for number, entry in self._seen.items()]
        return {**counts, "last": self._last, "seen": seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what :meth:`state_dict` returned."""
        for name in _COUNTS:
            setattr(self, name, state[name])
        self._last = state["last"]
        self._seen = OrderedDict((number, [step, visits]) for number, step, visits in state["seen"])


_COUNTS = ("steps", "escapes", "returns", "time_away", "distinct")
