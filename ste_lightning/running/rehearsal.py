"""A rehearsal before a run: everything is built and one batch goes all the way.

What is wrong in a configuration often shows late: a metric that nothing logs after the first
epoch, a figure after the last. So a run is first played through with one batch: a step of
training, of validation and of testing, a checkpoint, the summary and the figures. That takes
parts of its own, built from the same configuration and thrown away: the run's model, data,
callbacks and random numbers are untouched.
"""

from __future__ import annotations

import gc
import logging
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.fabric.utilities.rank_zero import WarningCache  # type: ignore[attr-defined]
from lightning.pytorch.callbacks import (
    BatchSizeFinder,
    LearningRateFinder,
    ModelSummary,
    ProgressBar,
)
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from omegaconf import DictConfig

from ste_lightning.callbacks import QuantizationMonitor
from ste_lightning.convert import dead_weights
from ste_lightning.errors import ConfigurationError, unknown
from ste_lightning.figures.finished import Finished
from ste_lightning.io.checkpoint import read_checkpoint
from ste_lightning.running import files
from ste_lightning.running.checkpoint_io import WholeCheckpoints
from ste_lightning.running.execute import execute, summarize
from ste_lightning.running.failures import RunError, described, warning
from ste_lightning.running.metrics_file import history
from ste_lightning.running.parts import Parts, assemble
from ste_lightning.running.settings import Settings, resolved

__all__ = ["rehearse"]

_MOST_BATCHES = 8
_SKIPPED = (ProgressBar, ModelSummary, BatchSizeFinder, LearningRateFinder, QuantizationMonitor)


def rehearse(cfg: DictConfig, folder: Path, begin: Callable[[str], None]) -> None:
    """Play a run through with one batch.

    Args:
        cfg: the run's configuration.
        folder: the run's folder; the rehearsal's files are in a folder within, which is removed.
        begin: is told at the beginning of each of its four stages what it does.

    Raises:
        ConfigurationError: for a setting that cannot work.
        RunError: where code fails, with the place.
    """
    with tempfile.TemporaryDirectory(prefix=".rehearsal-", dir=folder) as name, _silent():
        scratch = Path(name)
        settings = resolved(cfg, scratch)
        begin("trying the settings: building everything")
        parts = _assemble(settings, scratch)
        begin("trying the settings: one batch")
        metrics = _play(settings, parts, scratch)
        _read_again(scratch)
        logged = history(scratch / files.METRICS)
        run = Finished(parts.model, parts.data, logged, metrics)
        _check_weights(parts)
        begin("trying the settings: what is reported")
        _check_names(settings, parts, run)
        begin("trying the settings: figures")
        _draw(parts, run, scratch)
    del parts
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


class _Stop(L.Callback):
    """Ends training after the first optimizer step, in the loops' own order."""

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Stop; validation still runs, and the end of the epoch."""
        if trainer.global_step > 0 or batch_idx + 1 >= _MOST_BATCHES:
            trainer.should_stop = True


class _ScratchCheckpoints(WholeCheckpoints):
    """Touches no file outside the rehearsal's folder: another run's may be there."""

    def __init__(self, scratch: Path) -> None:
        super().__init__()
        self.scratch = scratch

    def _is_ours(self, path: str | Path) -> bool:
        return Path(path).is_relative_to(self.scratch)

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write a checkpoint of the rehearsal."""
        if self._is_ours(path):
            super().save_checkpoint(checkpoint, path, storage_options)

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a checkpoint of the rehearsal."""
        if self._is_ours(path):
            super().remove_checkpoint(path)


@contextmanager
def _silent() -> Iterator[None]:
    """Leave words about the rehearsal to the run itself, which will say them again.

    Lightning says some once in a process: it must not count those that nobody heard.
    """
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    once = {name: getattr(WarningCache, name) for name in ("warn", "deprecation", "info")}
    try:
        for name in once:
            setattr(WarningCache, name, lambda self, *args, **kwargs: None)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, method in once.items():
            setattr(WarningCache, name, method)
        logging.disable(level)


def _assemble(settings: Settings, scratch: Path) -> Parts:
    """Build the parts for one process and a few batches; how long the run is stays as it is."""
    trainer = settings["trainer"]
    devices = trainer.get("devices", 1)
    every = trainer.get("check_val_every_n_epoch", 1)
    return assemble(
        {
            **settings,
            "logger": {
                name: node
                for name, node in settings["logger"].items()
                if _is_local(node)  # others would start an experiment at their servers
            },
        },
        scratch,
        [_Stop()],
        _SKIPPED,
        devices=devices[:1] if isinstance(devices, list) else 1,
        strategy="auto",
        num_nodes=1,
        plugins=[_ScratchCheckpoints(scratch), LightningEnvironment()],
        min_epochs=None,
        min_steps=None,
        max_time=None,
        check_val_every_n_epoch=None if every is None else 1,
        num_sanity_val_steps=0,
        profiler=None,
        enable_progress_bar=False,
        enable_model_summary=False,
        **{
            key: _one_batch(trainer.get(key)) for key in ("limit_val_batches", "limit_test_batches")
        },
    )


def _one_batch(limit: Any) -> Any:
    return limit if limit == 0 else 1


def _is_local(node: Any) -> bool:
    target = node.get("_target_") if isinstance(node, Mapping) else None
    return str(target).rpartition(".")[2] in (TensorBoardLogger.__name__, CSVLogger.__name__)


def _play(settings: Settings, parts: Parts, scratch: Path) -> dict[str, float]:
    try:
        return execute(parts, None, settings["mode"] == "test", scratch)
    except (ConfigurationError, RunError):
        raise
    except Exception as error:
        metrics = [str(name) for name in parts.trainer.callback_metrics]
        for where, monitor in _monitors(parts):
            if monitor not in metrics and monitor in str(error):
                raise unknown(f"metric of {where}", monitor, metrics) from error
        if isinstance(error, MisconfigurationException):
            raise ConfigurationError(str(error)) from error
        raise RunError(
            f"{type(parts.model).__name__} with {type(parts.data).__name__}: the first batch "
            f"fails: {described(error)}"
        ) from error


def _read_again(scratch: Path) -> None:
    """Refuse to train what could not be resumed: a checkpoint of more than tensors and data."""
    for path in scratch.rglob("*.ckpt"):
        try:
            read_checkpoint(path)
        except ConfigurationError as error:
            found = re.search(r"GLOBAL ([\w.]+)", str(error.__cause__))
            raise ConfigurationError(
                f"a checkpoint of this run could not be read again: it holds "
                f"{found[1] if found else 'other objects'}, but only tensors and plain data are "
                "read. Look at on_save_checkpoint, state_dict and save_hyperparameters."
            ) from error


def _check_weights(parts: Parts) -> None:
    """Refuse weights that are all zero once quantized: no gradient passes through them."""
    for finding in dead_weights(parts.model):
        if finding.severe:
            raise ConfigurationError(finding.message)


def _monitors(parts: Parts) -> Iterator[tuple[str, str]]:
    for name, callback in parts.callbacks.items():
        monitor = getattr(callback, "monitor", None)
        if isinstance(monitor, str):
            yield f"callbacks.{name}.monitor", monitor


def _check_names(settings: Settings, parts: Parts, run: Finished) -> None:
    """Refuse metrics to watch, to report or to expect that the run would not have."""
    metrics, failed = summarize(parts, run)
    for where, error in failed:
        if isinstance(error, ConfigurationError):
            raise ConfigurationError(f"{where}: {error}") from error
    if failed or settings["mode"] == "test":  # then not all metrics are known
        return
    wanted = [("monitor", settings["monitor"])] if settings["monitor"] is not None else []
    wanted += _monitors(parts)
    wanted += [("report", name) for name in settings["report"]]
    wanted += [("expected", name) for name in settings["expected"]]
    for where, name in wanted:
        if name not in metrics:
            raise unknown(f"metric in {where}", name, metrics)


def _draw(parts: Parts, run: Finished, scratch: Path) -> None:
    """Draw the figures; of what goes wrong only what more training would not mend is refused."""
    for name, draw in parts.figures.items():
        try:
            draw(run).savefig(scratch / "figure.png", dpi=40)
        except ConfigurationError as error:
            raise ConfigurationError(f"figures.{name}: {error}") from error
        except Exception as error:
            warning(f"figures.{name} cannot be drawn after one batch: {described(error)}")
