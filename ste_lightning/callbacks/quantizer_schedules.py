"""Drive the schedules of quantizers that a network has by itself."""

from __future__ import annotations

import math
from typing import Any

import lightning as L

from ste_lightning.callbacks.stepping import share_done, steps_of_training
from ste_lightning.quantizers import Quantizer

__all__ = ["QuantizerSchedules"]


class QuantizerSchedules(L.Callback):
    """Move every scheduled parameter with the training: EDE, ReSTE's order, bits that fall.

    :class:`~ste_lightning.callbacks.QuantizationAwareTraining` does the same for the layers that
    it makes; this is for networks made of quantized layers, and for both together. Quantizers
    without ``schedule`` are left alone.

    Raises:
        ConfigurationError: when a fit begins that has schedules and no end.
    """

    def __init__(self) -> None:
        self._scheduled: list[Quantizer] = []
        self._steps = math.inf

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Find the schedules, and learn how long training is."""
        found = [m for m in pl_module.modules() if isinstance(m, Quantizer) and m.schedules]
        self._scheduled = found
        if not found:
            return
        self._steps = steps_of_training(trainer, "the quantizers have schedules")

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Move the schedules to where training is."""
        if not self._scheduled:
            return
        done = share_done(trainer, pl_module, self._steps)
        for quantizer in self._scheduled:
            quantizer.set_progress(done)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Forget the quantizers; their parameters stay where they are."""
        self._scheduled = []
