"""What a run is made of, built from its settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins import CheckpointIO

from ste_lightning.running.build import build, build_all, build_function, build_model
from ste_lightning.running.checkpoint_io import WholeCheckpoints
from ste_lightning.running.metrics_file import MetricsFile, Row
from ste_lightning.running.settings import Settings
from ste_lightning.running.starting import start_from

__all__ = ["Parts", "assemble"]


@dataclass(frozen=True)
class Parts:
    """Everything a configuration names, built.

    Attributes:
        model, data, trainer: as in Lightning.
        callbacks: by the names they have in the configuration.
        summary, figures: functions of the finished run, by name.
        sweep_figures: functions of a sweep's rows, by name.
    """

    model: L.LightningModule
    data: L.LightningDataModule
    trainer: L.Trainer
    callbacks: Mapping[str, L.Callback]
    summary: Mapping[str, Callable[..., Any]]
    figures: Mapping[str, Callable[..., Any]]
    sweep_figures: Mapping[str, Callable[..., Any]]


def assemble(
    settings: Settings,
    folder: Path,
    more: Sequence[L.Callback] = (),
    without: tuple[type, ...] = (),
    history: Sequence[Row] = (),
    **trainer: Any,
) -> Parts:
    """Build all parts of a run, from seeded random numbers.

    Args:
        settings: the run's settings, resolved and checked.
        folder: where the run's files go.
        more: further callbacks, which come first.
        without: kinds of callbacks to leave out.
        history: rows of metrics.csv that an earlier part of the training has written.
        trainer: arguments of the trainer that take the place of the configured ones.

    Raises:
        ConfigurationError: for what cannot be built, with its place in the configuration.
        RunError: if code fails while it builds.
    """
    if settings["threads"] is not None:
        torch.set_num_threads(settings["threads"])
    L.seed_everything(settings["seed"], workers=True, verbose=False)
    data = build("data", settings["data"], L.LightningDataModule)
    model = build_model("model", settings["model"], L.LightningModule)
    if settings.get("init_from") is not None and settings["ckpt_path"] is None:
        start_from(model, settings["init_from"])
    built = build_all("callbacks", settings["callbacks"], L.Callback)
    callbacks = {name: one for name, one in built.items() if not isinstance(one, without)}
    loggers = build_all("logger", settings["logger"], Logger)
    # Without a bar among the callbacks Lightning would add one of its own.
    bar = any(isinstance(callback, ProgressBar) for callback in callbacks.values())
    node = {"enable_progress_bar": bar, **settings["trainer"], **trainer}
    return Parts(
        model=model,
        data=data,
        trainer=build(
            "trainer",
            {key: value for key, value in node.items() if key != "plugins"},
            L.Trainer,
            callbacks=[*more, *callbacks.values()],
            logger=[MetricsFile(folder, history), *loggers.values()],
            default_root_dir=str(folder),
            plugins=_plugins(node.get("plugins")),
        ),
        callbacks=callbacks,
        summary=_functions("summary", settings["summary"]),
        figures=_functions("figures", settings["figures"]),
        sweep_figures=_functions("sweep.figures", settings["sweep"].get("figures") or {}),
    )


def _plugins(nodes: Any) -> list[Any]:
    """Return the configured plugins, and ours for checkpoints unless there is one among them."""
    listed = nodes if isinstance(nodes, list) else [] if nodes is None else [nodes]
    built = [
        build(f"trainer.plugins[{index}]", node) if isinstance(node, Mapping) else node
        for index, node in enumerate(listed)
    ]
    own = any(isinstance(plugin, CheckpointIO) for plugin in built)
    return built if own else [*built, WholeCheckpoints()]


def _functions(where: str, nodes: Mapping[str, Any]) -> dict[str, Callable[..., Any]]:
    return {
        name: build_function(f"{where}.{name}", node)
        for name, node in nodes.items()
        if node is not None
    }
