"""One bar for a whole training, with the time that is left of it."""

from __future__ import annotations

import math
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ProgressBar
from rich.progress import Progress, TaskID

from ste_lightning.io.progress import progress

__all__ = ["TrainingProgress"]


class TrainingProgress(ProgressBar):
    """One bar over all epochs: epoch, metrics, time taken and time left; testing has another.

    Lightning's own bars begin anew with every epoch and cannot say when training ends. Metrics
    are those logged with ``prog_bar=True``, as of the last epoch. Drawn on a terminal, not into
    files and pipes.
    """

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True
        self._bar: Progress | None = None
        self._task = TaskID(0)

    def enable(self) -> None:
        """Draw from now on."""
        self._enabled = True

    def disable(self) -> None:
        """Draw nothing from now on; Lightning asks all processes but the first for it."""
        self._enabled = False
        self._close()

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print above the bar."""
        if self._bar is not None:
            self._bar.console.print(*args, **kwargs)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin, where a resumed training was left."""
        epochs, steps = _most(trainer.max_epochs), _most(trainer.max_steps)
        batches = trainer.num_training_batches * epochs
        total = min(batches, steps * trainer.accumulate_grad_batches)
        done = trainer.fit_loop.epoch_loop.total_batch_idx + 1
        self._open("training", None if math.isinf(total) else total, done)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Say which epoch it is, and what the one before came to."""
        if self._bar is None:
            return
        epochs = _most(trainer.max_epochs)
        most = "" if math.isinf(epochs) else f" of {epochs}"
        said = self.get_metrics(trainer, pl_module)
        said.pop("v_num", None)
        numbers = [f"{key} {float(value):.4g}" for key, value in list(said.items())[:3]]  # type: ignore[arg-type]
        words = [f"epoch {trainer.current_epoch + 1}{most}", *numbers]
        self._bar.update(self._task, description="  ".join(words))

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """Move on."""
        if self._bar is not None:
            self._bar.advance(self._task)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """End."""
        self._close()

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin a bar of its own."""
        total = sum(trainer.num_test_batches)
        self._open("testing", None if math.isinf(total) else total)

    def on_test_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """Move on."""
        if self._bar is not None:
            self._bar.advance(self._task)

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """End."""
        self._close()

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Leave the terminal to the message."""
        self._close()

    def _open(self, description: str, total: float | None, done: int = 0) -> None:
        if self._enabled:
            self._bar = progress()
            self._task = self._bar.add_task(description, total=total, completed=done)
            self._bar.start()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _most(number: int | None) -> float:
    """Return a limit of the trainer, which has -1 or None for none."""
    return math.inf if number is None or number < 0 else number
