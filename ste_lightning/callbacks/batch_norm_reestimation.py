"""Estimate batch norm's statistics anew before every validation."""

from __future__ import annotations

from itertools import islice
from typing import Any

import lightning as L
from lightning.pytorch.utilities.seed import isolate_rng

from ste_lightning.convert import reestimate_batch_norm
from ste_lightning.errors import ConfigurationError, require

__all__ = ["BatchNormReestimation"]


class BatchNormReestimation(L.Callback):
    """Replace batch norm's running statistics by averages over training batches.

    Running statistics lag behind weights that flip. They are estimated before every validation,
    with the weights at rest, so that the checkpoint that validation chooses has its own. Training
    uses the statistics of its batches and is not changed, nor is the order of its batches: those
    used here come from another loader of the same data module, the first ones of an epoch.

    Source: M. Nagel et al., Overcoming Oscillations in Quantization-Aware Training (2022),
    section 3.1.

    Args:
        batches: how many; an epoch's at most.

    Raises:
        ConfigurationError: for fewer than one batch, and for a training without a data module.
    """

    def __init__(self, batches: int = 50) -> None:
        require(batches > 0, "batches", batches, "use a positive integer")
        self.batches = batches

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Estimate, while a fit is under way."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        data: Any = getattr(trainer, "datamodule", None)
        if data is None:
            raise ConfigurationError(
                "BatchNormReestimation needs training batches of its own: fit with datamodule=."
            )
        loader = islice(data.train_dataloader(), self.batches)

        def forward(batch: Any) -> None:
            pl_module(trainer.strategy.batch_to_device(batch)[0])

        with isolate_rng(), trainer.precision_plugin.forward_context():
            reestimate_batch_norm(pl_module, loader, forward)
