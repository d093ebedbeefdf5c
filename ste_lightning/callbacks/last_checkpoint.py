"""The newest checkpoint, from which an interrupted training goes on."""

from __future__ import annotations

import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException

from ste_lightning.callbacks.stepping import StepCounter
from ste_lightning.errors import require

__all__ = ["LastCheckpoint"]


class LastCheckpoint(Checkpoint):
    """Keeps ``last.ckpt``: after every epoch, every ``minutes`` within one, and when stopped.

    It is only written where training can go on exactly: after an optimizer step, never between
    the batches whose gradients are summed, and after all callbacks that choose a best checkpoint,
    so that it knows their choice. Ctrl-C and SIGTERM stop at the end of the step, with a
    checkpoint; a second Ctrl-C stops at once. An error writes nothing: the last checkpoint was
    good, and what is in memory may not be.

    Args:
        dirpath: the folder; default the trainer's ``default_root_dir`` with ``checkpoints``.
        minutes: most minutes between two checkpoints within an epoch; default 10. None: only at
            the end of epochs.

    Raises:
        ConfigurationError: for negative minutes.
    """

    def __init__(self, dirpath: str | None = None, minutes: float | None = 10.0) -> None:
        require(minutes is None or minutes >= 0, "minutes", minutes, "use 0 or more, or null")
        self.dirpath, self.minutes = dirpath, minutes
        self._own_folder = dirpath is not None
        self._saved_step, self._saved_time = 0, 0.0
        self._steps: StepCounter | None = None
        self._stop = self._terminate = self._at_step = self._validating = False
        self._before: dict[int, Any] = {}

    @property
    def last_model_path(self) -> str:
        """Path of the file, empty before training has a folder."""
        return "" if self.dirpath is None else str(Path(self.dirpath) / "last.ckpt")

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Choose the folder; act after the callbacks that choose a best checkpoint."""
        if not self._own_folder:
            self.dirpath = str(Path(trainer.default_root_dir) / "checkpoints")
        order: Any = trainer  # Lightning declares its list of callbacks nowhere
        order.callbacks = [*(one for one in order.callbacks if one is not self), self]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock and take over Ctrl-C."""
        self._saved_step, self._saved_time = trainer.global_step, time.monotonic()
        self._steps = StepCounter(trainer)
        self._stop = self._terminate = self._at_step = self._validating = False
        if threading.current_thread() is not threading.main_thread():
            return
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._before[signal.SIGINT] = signal.signal(signal.SIGINT, self._on_interrupt)
        # Lightning's own handler sends a message to the other processes in the middle of a step.
        if trainer.world_size > 1 and not SLURMEnvironment.detect():
            self._before[signal.SIGTERM] = signal.signal(signal.SIGTERM, self._on_terminate)

    def _on_interrupt(self, signum: int, frame: FrameType | None) -> None:
        if self._stop:
            raise KeyboardInterrupt
        self._stop = True
        print("stopping after this step; Ctrl-C again stops at once", file=sys.stderr)

    def _on_terminate(self, signum: int, frame: FrameType | None) -> None:
        self._terminate = True

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Save if it is time, or stop if that was asked for; after validation if that is due."""
        stepped = self._steps is not None and self._steps.advanced(trainer)
        # The end of the epoch, and of the training, comes with a checkpoint of its own.
        last = trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
        inside = stepped and not last and trainer.global_step != trainer.max_steps
        # A resumed training would not make up for a validation that it lacks.
        self._validating = inside and _is_validation_due(trainer, batch_idx)
        self._at_step = inside and not self._validating
        if self._at_step:
            self._act(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Do what has waited for a validation within the epoch."""
        if self._validating:
            self._validating, self._at_step = False, True
            self._act(trainer)

    def _act(self, trainer: L.Trainer) -> None:
        due = self.minutes is not None and (
            time.monotonic() - self._saved_time >= 60 * self.minutes
        )
        due, stop, terminate = _agreed(trainer, due, self._stop, self._terminate)
        if due or stop or terminate:
            self._save(trainer)
        _leave(stop, terminate)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save once those callbacks have saved that choose a best checkpoint."""
        self._save(trainer)
        _leave(*_agreed(trainer, self._stop, self._terminate))

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Save if SIGTERM has stopped training between two steps, not within a validation."""
        if isinstance(exception, SIGTERMException) and self._at_step:
            self._save(trainer)
        self._give_back()

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Give Ctrl-C back."""
        self._give_back()

    def _give_back(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before, self._steps = {}, None

    def _save(self, trainer: L.Trainer) -> None:
        if getattr(trainer, "fast_dev_run", False) or trainer.global_step == self._saved_step:
            return
        trainer.save_checkpoint(self.last_model_path, weights_only=False)
        self._saved_step, self._saved_time = trainer.global_step, time.monotonic()


def _agreed(trainer: L.Trainer, *flags: bool) -> list[bool]:
    """Return which flags any process has: clocks differ, and one alone may have got a signal."""
    if trainer.world_size == 1:
        return list(flags)
    given = torch.tensor(flags, dtype=torch.float32, device=trainer.strategy.root_device)
    return [flag > 0 for flag in trainer.strategy.reduce(given, reduce_op="max").tolist()]


def _leave(stop: bool, terminate: bool) -> None:
    if stop:
        raise KeyboardInterrupt
    if terminate:
        raise SIGTERMException


def _is_validation_due(trainer: L.Trainer, batch_idx: int) -> bool:
    every = trainer.val_check_batch
    if not trainer.enable_validation or every is None or every == float("inf"):
        return False
    epochs = trainer.check_val_every_n_epoch
    if epochs is None:  # counted over epochs
        return (trainer.fit_loop.total_batch_idx + 1) % every == 0
    return (trainer.current_epoch + 1) % epochs == 0 and (batch_idx + 1) % every == 0
