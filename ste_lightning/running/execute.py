"""Training and testing of what was built, and the numbers that come out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L

from ste_lightning.errors import ConfigurationError, require
from ste_lightning.figures.finished import Finished
from ste_lightning.running.checkpoints import explained
from ste_lightning.running.parts import Parts
from ste_lightning.running.stopping import lightning_stops

__all__ = ["execute", "summarize"]


def execute(parts: Parts, ckpt_path: str | None, testing: bool, folder: Path) -> dict[str, float]:
    """Train, then test the best checkpoint; or only test.

    Args:
        parts: of the run.
        ckpt_path: where training goes on, or what is tested.
        testing: whether only to test.
        folder: the run's folder, with ``checkpoints/best.ckpt`` where a callback keeps it.

    Returns:
        Metric -> last value.

    Raises:
        ConfigurationError: for data of which no batch was trained.
    """
    trainer, model, data = parts.trainer, parts.model, parts.data
    metrics: dict[str, float] = {}
    can_test = _overrides(model, L.LightningModule, "test_step")
    if testing:
        require(can_test, "mode", "test", f"{type(model).__name__} has no test_step")
    else:
        with explained(ckpt_path, model), lightning_stops():
            trainer.fit(model, data, ckpt_path=ckpt_path, weights_only=True)
        _refuse_nothing(trainer, data)
        metrics |= {name: float(value) for name, value in trainer.callback_metrics.items()}
        best = folder / "checkpoints" / "best.ckpt"
        ckpt_path = str(best) if best.is_file() else None
    if can_test and _overrides(data, L.LightningDataModule, "test_dataloader"):
        with explained(ckpt_path, model), lightning_stops():
            trainer.test(model, data, ckpt_path=ckpt_path, verbose=False, weights_only=True)
        metrics |= {name: float(value) for name, value in trainer.callback_metrics.items()}
    return metrics


def _refuse_nothing(trainer: L.Trainer, data: L.LightningDataModule) -> None:
    """Refuse a training without a batch, unless it was asked for; Lightning only warns of it."""
    asked = 0 not in (trainer.max_epochs, trainer.max_steps, trainer.limit_train_batches)
    if asked and trainer.fit_loop.epoch_loop.batch_progress.total.ready == 0:
        raise ConfigurationError(
            f"{type(data).__name__} gives no batch to train on: it is empty, or drop_last leaves "
            "nothing of fewer samples than batch_size."
        )


def _overrides(thing: object, base: type, method: str) -> bool:
    return getattr(type(thing), method, None) is not getattr(base, method, None)


def summarize(parts: Parts, run: Finished) -> tuple[dict[str, float], list[tuple[str, Exception]]]:
    """Return the run's metrics with those of its summary, and what failed there.

    Args:
        parts: of the run.
        run: its outcome.
    """
    metrics, failed = dict(run.metrics), []
    for name, function in parts.summary.items():
        where = f"summary.{name}"
        try:
            metrics |= _numbers(where, function(run))
        except Exception as error:
            failed.append((where, error))
    return metrics, failed


def _numbers(where: str, made: Any) -> dict[str, float]:
    if not isinstance(made, Mapping):
        raise ConfigurationError(
            f"{where} cannot be used: it returns a {type(made).__name__}, "
            "let it return metric -> number."
        )
    return {str(name): float(value) for name, value in made.items()}
