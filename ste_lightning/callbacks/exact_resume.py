"""What a checkpoint lacks for training to go on exactly as if nothing had happened."""

from __future__ import annotations

import math
from typing import Any

import lightning as L
import torch
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.combined_loader import CombinedLoader
from torchmetrics import Metric, MetricCollection

from ste_lightning.callbacks.earlier_best import follow_best
from ste_lightning.callbacks.random_state import random_state, set_random_state

__all__ = ["ExactResume"]


class ExactResume(L.Callback):
    """Puts random numbers and the averages of the unfinished epoch into every checkpoint.

    Lightning's checkpoints hold weights, optimizers, schedules, the loops' counters and the state
    of callbacks and of loaders that can tell it. This callback adds the states of torch's,
    NumPy's and Python's generators in every process, the values logged last, and for
    checkpoints within an epoch what metrics and averages have seen of it. Training that is
    resumed then has the weights, metrics and curves of the uninterrupted one, bit for bit on the
    same machine, given a loader whose position is known: one with ``state_dict``, as those of
    ``ste_lightning.data`` and torchdata's ``StatefulDataLoader``, or any loader at the end of an
    epoch. Where another loader is resumed within an epoch, a warning says so, Lightning's or this
    callback's.

    It has to be there when the checkpoint is written and when training goes on.
    """

    _KEY = "exact_resume"

    def __init__(self) -> None:
        self._restored: dict[str, Any] = {}
        self._sums: dict[str, dict[str, torch.Tensor]] = {}
        self._early = False  # loaders were made before the checkpoint was restored

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the states to the checkpoint."""
        within = not trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
        own = {
            "random": random_state(),
            "metrics": _metrics(pl_module) if within else {},
            "sums": _sums(trainer) if within else {},
            "logged": {name: value.clone() for name, value in trainer.callback_metrics.items()},
        }
        checkpoint[self._KEY] = {"within": within, "ranks": _from_all(trainer, own)}

    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the states until training starts; look for best checkpoints where they are."""
        self._restored = checkpoint.get(self._KEY, {})
        if trainer.state.fn == TrainerFn.FITTING:
            follow_best(trainer, checkpoint)
            if trainer.max_steps != -1:
                _undo_end_of_epoch(checkpoint["loops"]["fit_loop"])

    def _mine(self, trainer: L.Trainer) -> dict[str, Any] | None:
        ranks = self._restored.get("ranks", [])
        return ranks[trainer.global_rank] if len(ranks) == trainer.world_size else None

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Set the values logged last, and the generators before loaders draw from them."""
        self._sums = {}
        state = self._mine(trainer)
        self._early = bool(self._restored) and trainer.fit_loop._combined_loader is not None
        if state is not None:
            set_random_state(state["random"])
            trainer.callback_metrics.update(state["logged"])

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Within an epoch the loaders had drawn long before the checkpoint: set once more."""
        state, within = self._mine(trainer), self._restored.get("within", False)
        self._restored = {}
        if self._early:
            _begin_again(trainer)
        if within:
            _warn_of_loaders(trainer)
        if state is None or not within:
            return
        set_random_state(state["random"])
        _restore_metrics(pl_module, state["metrics"])
        self._sums = state["sums"]

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """After the first batch, which creates the averages, add what came before."""
        for name, saved in self._sums.items():
            result = _results(trainer).get(name)
            if result is not None:
                _combine(result, saved)
        self._sums = {}

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Forget what a fit that failed has not used."""
        self._restored, self._sums = {}, {}


def _begin_again(trainer: L.Trainer) -> None:
    """Bring loaders that were made early to their places, and let them draw from here.

    A module that asks for ``estimated_stepping_batches`` in ``configure_optimizers`` has the
    loaders made before the checkpoint's loops and generators are restored. Lightning then leaves
    them at the start of an epoch, with orders drawn from other random numbers.
    """
    loop = trainer.fit_loop
    loop._load_combined_loader_states()
    if loop._data_fetcher is not None:
        iter(loop._data_fetcher)


def _warn_of_loaders(trainer: L.Trainer) -> None:
    """Say that training goes on with other batches, where Lightning does not see it."""
    loaders = CombinedLoader(trainer.train_dataloader).flattened
    unknown = [one for one in loaders if not hasattr(one, "load_state_dict")]
    length = trainer.num_training_batches
    if math.isfinite(length):
        steps = math.ceil(length / trainer.accumulate_grad_batches)
        if trainer.global_step % steps != 0:
            return  # Lightning warns
    if unknown:
        rank_zero_warn(
            f"Training goes on within an epoch, and {type(unknown[0]).__name__} cannot say where "
            "it was: its next batches are not those of the uninterrupted training. Give a loader "
            "with state_dict and load_state_dict, such as torchdata's StatefulDataLoader, or go "
            "on from the end of an epoch."
        )


def _undo_end_of_epoch(loop: dict[str, Any]) -> None:
    """Let a training that counts steps end the epoch of the checkpoint once, not twice.

    At the end of an epoch, before it is complete, checkpoints are written. Lightning goes through
    that end again where ``max_steps`` is set, and counts one epoch too many.
    """
    total = loop["epoch_progress"]["total"]
    if total["processed"] == total["started"] == total["completed"] + 1:
        for count in loop["epoch_progress"].values():
            count["processed"] -= 1
        loop["epoch_loop.state_dict"]["_batches_that_stepped"] -= 1


def _from_all(trainer: L.Trainer, own: dict[str, Any]) -> list[dict[str, Any]]:
    if trainer.world_size == 1:
        return [own]
    gathered: list[Any] = [None] * trainer.world_size
    torch.distributed.all_gather_object(gathered, own)
    return gathered


def _metrics(module: L.LightningModule) -> dict[str, dict[str, Any]]:
    """Return the states of the module's metrics by name, without those in its state dict."""
    found: dict[str, dict[str, Any]] = {}
    for part in module.modules():
        if isinstance(part, MetricCollection):
            part.items(keep_base=True, copy_state=False)  # members get what their group has seen
    for name, part in module.named_modules():
        if isinstance(part, Metric):
            kept = part.state_dict()
            state = {k: _copy(v) for k, v in part.metric_state.items() if k not in kept}
            found[name] = {"state": state, "updates": part._update_count}
    return found


def _copy(value: Any) -> Any:
    return [one.clone() for one in value] if isinstance(value, list) else value.clone()


def _restore_metrics(module: L.LightningModule, saved: dict[str, dict[str, Any]]) -> None:
    for name, part in module.named_modules():
        if isinstance(part, Metric) and name in saved:
            for key, value in saved[name]["state"].items():
                moved = (
                    [one.to(part.device) for one in value]
                    if isinstance(value, list)
                    else value.to(part.device)
                )
                setattr(part, key, moved)
            part._update_count, part._computed = saved[name]["updates"], None


# Lightning keeps its averages in a collection that it hides; nothing public leads to them.
def _results(trainer: L.Trainer) -> Any:
    return trainer.fit_loop.epoch_loop._results


def _sums(trainer: L.Trainer) -> dict[str, dict[str, torch.Tensor]]:
    return {
        name: {key: value.clone() for key, value in result.metric_state.items()}
        for name, result in _results(trainer).items()
        if result.is_tensor and result.meta.on_epoch
    }


def _combine(result: Any, saved: dict[str, torch.Tensor]) -> None:
    value = saved["value"].to(result.value.device)
    if result.meta.is_max_reduction:
        result.value = torch.maximum(result.value, value)
    elif result.meta.is_min_reduction:
        result.value = torch.minimum(result.value, value)
    else:  # sums, and the sums behind means
        result.value = value + result.value
        if "cumulated_batch_size" in saved:
            count = saved["cumulated_batch_size"].to(result.value.device)
            result.cumulated_batch_size = count + result.cumulated_batch_size
    result._computed = None
