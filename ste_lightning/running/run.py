"""One run: build, train or test, report."""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.loggers import CSVLogger
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

import ste_lightning
from ste_lightning.errors import ConfigurationError, require
from ste_lightning.figures.finished import Finished
from ste_lightning.io.whole_file import write_json, write_text
from ste_lightning.running import files, recipes, report
from ste_lightning.running.build import build, build_all
from ste_lightning.running.checkpoints import explained, loadable
from ste_lightning.running.quiet import quiet

__all__ = ["run"]


def run(cfg: DictConfig) -> float | None:
    """Do what the configuration says and leave its results in the run's folder.

    Returns:
        The value of ``monitor``, for a sweeper that optimizes it; None without a monitor.

    Raises:
        ConfigurationError: for settings that cannot work; the run's folder is then removed, unless
            it held something before.
        SystemExit: with status 130 after Ctrl-C, when the last checkpoint has been written.
    """
    folder = Path(cfg.folder)
    fresh = files.is_fresh(folder)
    try:
        settings: dict[str, Any] = OmegaConf.to_container(  # type: ignore[assignment]
            cfg, resolve=True, throw_on_missing=True
        )
        with quiet():
            return _run(settings, folder)
    except (ConfigurationError, MisconfigurationException, OmegaConfBaseException) as error:
        if fresh:
            files.discard(folder)
        if isinstance(error, MisconfigurationException):
            raise ConfigurationError(str(error)) from error
        raise


def _run(settings: dict[str, Any], folder: Path) -> float | None:
    if not settings["model"] or not settings["data"]:
        raise ConfigurationError(
            "no recipe chosen: add +recipe=NAME. Recipes:\n" + recipes.listing()
        )
    started = time.perf_counter()
    testing = settings["mode"].value == "test"
    ckpt_path = loadable(settings["ckpt_path"], needed=testing)
    require(settings["seed"] >= 0, "seed", settings["seed"], "use a non-negative integer")
    if settings["threads"] is not None:
        require(settings["threads"] > 0, "threads", settings["threads"], "use a positive integer")
        torch.set_num_threads(settings["threads"])
    L.seed_everything(settings["seed"], workers=True, verbose=False)

    data = build("data", settings["data"])
    # The model gets its network as a plain description, which its checkpoints can hold.
    model = build("model", {"_recursive_": False, **settings["model"]})
    metrics_file = folder / "metrics" / "metrics.csv"
    callbacks = build_all("callbacks", settings["callbacks"])
    # Without a bar among the callbacks Lightning would add one of its own.
    bar = any(isinstance(callback, ProgressBar) for callback in callbacks)
    trainer = build(
        "trainer",
        {"enable_progress_bar": bar, **settings["trainer"]},
        callbacks=callbacks,
        logger=[
            CSVLogger(folder, name="metrics", version=""),
            *build_all("logger", settings["logger"]),
        ],
        default_root_dir=str(folder),
    )
    if trainer.is_global_zero:
        plain = {**settings, "mode": settings["mode"].value}
        write_text(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(plain)))

    metrics = _execute(trainer, model, data, ckpt_path, testing, folder)
    if trainer.is_global_zero:
        seconds = time.perf_counter() - started
        finished = Finished(model, data, files.history(metrics_file), metrics)
        for name, node in settings["summary"].items():
            metrics |= build(f"summary.{name}", {"_partial_": True, **node})(finished)
        if not testing:
            _draw(settings["figures"], finished, folder)
        _report(settings, metrics, seconds, folder)
    return metrics.get(settings["monitor"] or "")


def _execute(
    trainer: L.Trainer,
    model: L.LightningModule,
    data: L.LightningDataModule,
    ckpt_path: str | None,
    testing: bool,
    folder: Path,
) -> dict[str, float]:
    metrics: dict[str, float] = {}
    can_test = _overrides(model, L.LightningModule, "test_step")
    if testing:
        require(can_test, "mode", "test", f"{type(model).__name__} has no test_step")
    else:
        with explained(ckpt_path, model):
            try:
                trainer.fit(model, data, ckpt_path=ckpt_path, weights_only=True)
            except SystemExit:
                if not trainer.interrupted:
                    raise
                _say_interrupted(trainer, folder)
                raise SystemExit(130) from None
        metrics |= {name: float(value) for name, value in trainer.callback_metrics.items()}
        best = folder / "checkpoints" / "best.ckpt"
        ckpt_path = str(best) if best.is_file() else None
    if can_test and _overrides(data, L.LightningDataModule, "test_dataloader"):
        if trainer.progress_bar_callback is not None:
            trainer.progress_bar_callback.disable()  # testing takes a moment
        with explained(ckpt_path, model):
            trainer.test(model, data, ckpt_path=ckpt_path, verbose=False, weights_only=True)
        metrics |= {name: float(value) for name, value in trainer.callback_metrics.items()}
    return metrics


def _overrides(thing: object, base: type, method: str) -> bool:
    return getattr(type(thing), method, None) is not getattr(base, method, None)


def _say_interrupted(trainer: L.Trainer, folder: Path) -> None:
    last = folder / "checkpoints" / "last.ckpt"
    text = f"Interrupted after {trainer.global_step} steps."
    if last.is_file():
        text += f" To continue, repeat the command with ckpt_path={last}"
    print(text, file=sys.stderr)


def _draw(figures: Mapping[str, Mapping[str, Any]], finished: Finished, folder: Path) -> None:
    for name, node in figures.items():
        if node is not None:
            figure = build(f"figures.{name}", {"_partial_": True, **node})(finished)
            figure.savefig(folder / f"{name}.png", dpi=150)


def _report(
    settings: Mapping[str, Any], metrics: Mapping[str, float], seconds: float, folder: Path
) -> None:
    overrides = HydraConfig.get().overrides.task
    write_json(
        folder / files.RESULTS,
        {
            "name": settings["name"],
            "seed": settings["seed"],
            "overrides": list(overrides),
            "metrics": dict(metrics),
            "seconds": round(seconds, 3),
            "versions": {
                "ste_lightning": ste_lightning.__version__,
                "torch": torch.__version__,
                "lightning": L.__version__,
                "python": platform.python_version(),
            },
        },
    )
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        report.print_line(overrides, metrics, settings["report"], seconds)
        return
    report.print_run(
        f"{settings['name']}, seed {settings['seed']}",
        metrics,
        settings["report"],
        settings["expected"],
        notes=[f"{seconds:.1f} s; results, checkpoints and figures in {_near(folder)}"],
    )


def _near(folder: Path) -> str:
    try:
        return str(folder.relative_to(Path.cwd()))
    except ValueError:
        return str(folder)
