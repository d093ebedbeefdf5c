"""Estimate batch norm's statistics anew before every validation."""

from __future__ import annotations

from itertools import islice
from typing import Any

import lightning as L
from lightning.pytorch.utilities.seed import isolate_rng
from torch.nn.modules.batchnorm import _BatchNorm

from ste_lightning.convert import reestimate_batch_norm
from ste_lightning.errors import ConfigurationError, require

__all__ = ["BatchNormReestimation", "reestimate_within_fit"]


class BatchNormReestimation(L.Callback):
    """Replace batch norm's running statistics by averages over training batches.

    Running statistics lag behind weights that flip. They are estimated before every validation,
    with the weights at rest, so that the checkpoint that validation chooses has its own. Training
    uses the statistics of its batches and is not changed, nor is the order of its batches: those
    used here come from a loader of their own, the first ones of an epoch.

    Source: M. Nagel et al., Overcoming Oscillations in Quantization-Aware Training (2022),
    section 3.1.

    Args:
        batches: how many; an epoch's at most.

    Raises:
        ConfigurationError: for fewer than one batch, and for a loader with persistent workers.
    """

    def __init__(self, batches: int = 50) -> None:
        require(batches > 0, "batches", batches, "use a positive integer")
        self.batches = batches

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Estimate, while a fit is under way."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        reestimate_within_fit(trainer, pl_module, self.batches)


def reestimate_within_fit(trainer: L.Trainer, module: L.LightningModule, batches: int) -> None:
    """Estimate batch norm's statistics from training batches, while a fit is under way.

    The module's ``forward`` takes a batch's first part. The batches come from another loader of
    the same data module, or from another pass over the loader that the fit was given; random
    numbers are as before afterwards.

    Args:
        trainer: that is training.
        module: what it trains.
        batches: how many; an epoch's at most.

    Raises:
        ConfigurationError: for a loader of which only one pass can be under way.
    """
    if not any(isinstance(part, _BatchNorm) for part in module.modules()):
        return
    data: Any = getattr(trainer, "datamodule", None)
    loader: Any = trainer.train_dataloader if data is None else data.train_dataloader()
    if data is None and getattr(loader, "persistent_workers", False):
        raise ConfigurationError(
            "train_dataloaders with persistent_workers=True cannot be used where batch norm is "
            "estimated anew: a second pass would end the training's. Fit with datamodule=, or "
            "set persistent_workers=False."
        )

    def forward(batch: Any) -> None:
        batch = trainer.strategy.batch_to_device(trainer.precision_plugin.convert_input(batch))
        module(batch[0] if isinstance(batch, (list, tuple)) else batch)

    with isolate_rng(), trainer.precision_plugin.forward_context():
        reestimate_batch_norm(module, islice(loader, batches), forward)
