"""The callback that stops a run which has met NaN or infinity."""

from __future__ import annotations

from typing import Any

import lightning as L
from torch import Tensor

from ste_lightning.callbacks.finite_watch import FiniteWatch
from ste_lightning.errors import NotFiniteError, require

__all__ = ["FiniteCheck"]


class FiniteCheck(L.Callback):
    """Stops a run that has met NaN or infinity, before it saves over a good checkpoint.

    Every batch and every loss is looked at, and every ``every`` steps all parameters, ranges of
    quantizers and statistics of norms: a sign hides what is not a number from all that follows.
    So it is with the batches of validation and test, whose numbers would look sound.
    On the CPU a loss that is not finite stops the run before its gradients reach the weights.
    :class:`~ste_lightning.callbacks.QuantizationAwareTraining` does the same by itself, unless one
    that looks as often stands beside it.

    Cost: of the processor time of a step of a binary network 64-n-n-10 with 128 rows 8 % at
    n = 128, 3 % at 512 (``benchmarks/callback_overhead.py --check``).

    Args:
        every: training steps between two looks at the model; default 10.

    Raises:
        ConfigurationError: for ``every`` below 1.
        NotFiniteError: with layer, batch and cause.
    """

    def __init__(self, every: int = 10) -> None:
        require(type(every) is int and every > 0, "every", every, "use a positive integer")
        self.every = every
        self._watch: FiniteWatch | None = None
        self._index = 0  # of the present batch

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Look at the model."""
        self._watch = FiniteWatch(trainer, pl_module, self.every)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Take note of the batch."""
        self._index = batch_idx
        if self._watch is not None:
            self._watch.batch(batch, batch_idx)

    def on_before_backward(
        self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor
    ) -> None:
        """Take note of the loss."""
        if self._watch is not None:
            self._watch.loss(loss, self._index)

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Look when it is time."""
        if self._watch is not None:
            self._watch.step_done()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Look before a checkpoint is written."""
        if self._watch is not None:
            self._watch.look()

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Look before anything is measured, and a checkpoint written."""
        if trainer.sanity_checking:
            return
        if self._watch is None:  # validation or test on its own
            self._watch = FiniteWatch(trainer, pl_module, self.every)
        else:
            self._watch.look()

    def on_validation_batch_start(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Take note of the batch."""
        if self._watch is not None:
            self._watch.batch(batch, batch_idx)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Look at what was noted, before a checkpoint is written."""
        if self._watch is not None:
            self._watch.look()

    on_test_start = on_validation_start
    on_test_batch_start = on_validation_batch_start
    on_test_end = on_validation_end

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Let no checkpoint be written of what is not finite."""
        if self._watch is None:
            return
        if isinstance(exception, NotFiniteError) or self._watch.is_broken():
            for callback in trainer.checkpoint_callbacks:  # those that save on exceptions
                vars(callback)["_last_global_step_saved"] = trainer.global_step
        self._close()

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Leave no hook behind."""
        self._close()

    def _close(self) -> None:
        if self._watch is not None:
            self._watch.close()
            self._watch = None
