"""Convert a LightningModule at the one right moment: its layers made, nothing else yet."""

from __future__ import annotations

from collections.abc import Callable

import lightning as L
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.utilities.model_helpers import is_overridden

from ste_lightning.convert import Policy, Report, quantize_

__all__ = ["cancel_swap", "convert_module", "swap_at_setup"]

_HOOK = "configure_model"


def convert_module(module: L.LightningModule, policy: Policy, reach_frozen: bool = False) -> Report:
    """Convert ``module`` by ``policy``; its ``example_input_array``, if any, shows its structure.

    Where that example cannot be run, the structure is read from a symbolic trace.

    Args:
        module: the model.
        policy: what its layers become.
        reach_frozen: as for :func:`~ste_lightning.convert.quantize_`.
    """
    sample = module.example_input_array
    if sample is not None:
        try:
            return quantize_(module, policy, sample, reach_frozen=reach_frozen)
        except (RuntimeError, TypeError):
            pass  # an example for another device, precision or stage than setup's
    return quantize_(module, policy, reach_frozen=reach_frozen)


def swap_at_setup(
    trainer: L.Trainer, module: L.LightningModule, convert: Callable[[], None]
) -> None:
    """Call ``convert`` when the module's layers exist, before optimizers and checkpoints.

    Lightning calls the callbacks' ``setup``, the module's ``setup``, ``configure_model``, and
    then restores the checkpoint and makes the optimizers. A module that overrides one of the two
    may make layers there, so that ``convert`` runs after them, at the end of one call of
    ``configure_model`` that is routed through the instance. Sharding in ``configure_model`` needs
    the converted layers, so that under a model-parallel strategy ``convert`` runs first.
    """
    sharded = isinstance(trainer.strategy, ModelParallelStrategy)
    late = is_overridden("configure_model", module) or is_overridden("setup", module)
    if sharded or not late:
        convert()
        return

    configure = module.configure_model

    def configure_and_convert() -> None:
        cancel_swap(module)
        configure()
        convert()

    vars(module)[_HOOK] = configure_and_convert


def cancel_swap(module: L.LightningModule) -> None:
    """Remove the route through ``configure_model``, where one is left."""
    vars(module).pop(_HOOK, None)
