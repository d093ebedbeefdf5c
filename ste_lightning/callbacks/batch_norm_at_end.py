"""Run training batches through a LightningModule once more, for batch norm's statistics only."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import lightning as L
from lightning.pytorch.utilities import CombinedLoader
from lightning.pytorch.utilities.seed import isolate_rng
from lightning.pytorch.utilities.signature_utils import is_param_in_hook_signature

from ste_lightning.convert import reestimate_batch_norm

__all__ = ["reestimate_from_training_data"]


def reestimate_from_training_data(
    trainer: L.Trainer, module: L.LightningModule, batches: int
) -> None:
    """Estimate batch norm's statistics from ``batches`` training batches.

    The module's ``training_step`` runs without gradients and without logging.

    Args:
        trainer: that has just trained ``module``.
        module: with automatic optimization.
        batches: at most that many; one pass over the training data at most.
    """
    # as Lightning's own loop asks: by number, whatever the arguments are called
    takes_index = is_param_in_hook_signature(module.training_step, "batch_idx", min_args=2)

    def step(item: tuple[int, Any]) -> None:
        index, batch = item
        arguments = (batch, index) if takes_index else (batch,)
        with trainer.precision_plugin.train_step_context():
            module.training_step(*arguments)

    vars(module).update(log=_no_log, log_dict=_no_log)
    try:
        with isolate_rng():
            reestimate_batch_norm(module, islice(_batches(trainer), batches), step)
    finally:
        del vars(module)["log"], vars(module)["log_dict"]


def _batches(trainer: L.Trainer) -> Iterator[tuple[int, Any]]:
    loader = trainer.train_dataloader
    if not isinstance(loader, CombinedLoader):
        loader = CombinedLoader(loader, "max_size_cycle")
    iter(loader)
    for batch, index, _ in loader:
        batch = trainer.precision_plugin.convert_input(batch)
        yield index, trainer.strategy.batch_to_device(batch, dataloader_idx=0)


def _no_log(*args: Any, **kwargs: Any) -> None:
    """Take the place of ``log``: these steps are not training."""
