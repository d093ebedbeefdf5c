"""How long training takes, without what happens only once."""

from __future__ import annotations

import time
from typing import Any

import lightning as L

__all__ = ["Stopwatch"]


class Stopwatch(L.Callback):
    """Measures training from the end of its first step: imports, data and compiling are over.

    The parts of a training that was interrupted add up.

    Attributes:
        seconds: of training and validation, without warm-up; None before a second step.
    """

    def __init__(self) -> None:
        self._before, self._start, self._end = 0.0, 0.0, 0.0

    @property
    def seconds(self) -> float | None:
        """Return the seconds until now, or until training ended."""
        total = self._before + ((self._end or time.perf_counter()) - self._start)
        return total if self._start else (self._before or None)

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Start after the first step."""
        if not self._start:
            self._start = time.perf_counter()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop."""
        self._end = time.perf_counter()

    def state_dict(self) -> dict[str, float]:
        """Return the seconds until now."""
        return {"seconds": self.seconds or 0.0}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint's seconds; testing one after training adds nothing."""
        if not self._start:
            self._before = float(state_dict["seconds"])
