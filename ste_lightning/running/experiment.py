"""What every experiment logger is told: all settings, where numbers come from, and the outcome."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from matplotlib.figure import Figure

from ste_lightning.callbacks.figure_logging import log_figure
from ste_lightning.running import files
from ste_lightning.running.failures import described, warning
from ste_lightning.running.report import short
from ste_lightning.running.settings import Settings

__all__ = ["OneFileTensorBoard", "begin", "end"]


class OneFileTensorBoard(TensorBoardLogger):
    """TensorBoard with one file of events for training, testing and the outcome.

    Lightning closes the file after training and opens another for the test; its hyperparameters
    come with the value -1 in place of a result, and here with the results, at the end.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"default_hp_metric": False, **kwargs})

    def finalize(self, status: str) -> None:
        """Write what there is; :func:`end` closes the file."""
        if self._experiment is not None:
            self.experiment.flush()


def begin(loggers: Sequence[Logger], settings: Settings, origin: Mapping[str, Any]) -> None:
    """Tell the loggers all settings, resolved, the recipe and overrides, code and machine.

    Args:
        loggers: of the trainer; the CSV file has config.yaml beside it.
        settings: of the run.
        origin: overrides and :func:`ste_lightning.running.provenance.provenance`.
    """
    told = _flat("", {**settings, **origin})
    for logger in _others(loggers):
        # TensorBoard shows settings beside results: at the end.
        if not isinstance(logger, OneFileTensorBoard):
            with _trying(logger, "settings"):
                logger.log_hyperparams(told)


def end(
    loggers: Sequence[Logger],
    settings: Settings,
    origin: Mapping[str, Any],
    metrics: Mapping[str, float],
    figures: Mapping[str, Figure],
    folder: Path,
    step: int,
) -> None:
    """Give the loggers the outcome, and end each one's run.

    Figures go to every logger that has a place for them, but for the CSV file's, in whose folder
    they lie; the final table as text to TensorBoard and as numbers to the others; config.yaml,
    results.json and the best checkpoint to those that keep files (wandb, mlflow). A logger that
    fails costs a warning.

    Args:
        loggers: of the trainer.
        settings: of the run.
        origin: as for :func:`begin`.
        metrics: metric -> final value.
        figures: name -> figure.
        folder: the run's folder.
        step: the optimizer step of the end.
    """
    kept = [folder / files.CONFIG, folder / files.RESULTS, folder / "checkpoints" / "best.ckpt"]
    final = {f"final/{name}": value for name, value in metrics.items()}
    for logger in _others(loggers):
        for name, figure in figures.items():
            with _trying(logger, f"figure {name}"):
                log_figure(logger, name, figure, step)
        with _trying(logger, "results"):
            if isinstance(logger, TensorBoardLogger):
                _tensorboard(logger, settings, origin, metrics, step)
            else:
                logger.log_metrics(final, step)
        for path in filter(Path.is_file, kept):
            with _trying(logger, path.name):
                _keep(logger, settings["name"], path)
        with _trying(logger, "end of the run"):
            _finish(logger)


def _others(loggers: Sequence[Logger]) -> list[Logger]:
    return [logger for logger in loggers if not isinstance(logger, CSVLogger)]


@contextmanager
def _trying(logger: Logger, what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        warning(f"{type(logger).__name__} did not take the {what}: {described(error)}")


def _flat(path: str, value: Any) -> dict[str, Any]:
    """Return nested settings as ``a.b.c`` -> value, lists as JSON."""
    if isinstance(value, Mapping):
        found: dict[str, Any] = {}
        for key, part in value.items():
            found |= _flat(f"{path}.{key}".lstrip("."), part)
        return found
    plain = isinstance(value, (str, int, float, bool))
    return {path: value if plain else json.dumps(value, default=str)}


def _tensorboard(
    logger: TensorBoardLogger,
    settings: Settings,
    origin: Mapping[str, Any],
    metrics: Mapping[str, float],
    step: int,
) -> None:
    rows = "\n".join(f"| {name} | {short(value)} |" for name, value in metrics.items())
    logger.experiment.add_text("results", f"| metric | value |\n| --- | --- |\n{rows}", step)
    logger.log_hyperparams(_flat("", {**settings, **origin}), dict(metrics))


def _keep(logger: Logger, name: str, path: Path) -> None:
    """Hand a file to a logger that keeps files; they are known by their methods."""
    experiment: Any = getattr(logger, "experiment", None)
    keep = getattr(experiment, "log_artifact", None)
    if not callable(keep):
        return
    run = getattr(logger, "run_id", None)
    if run is not None:
        keep(run, str(path))  # mlflow
        return
    wandb = importlib.import_module("wandb")
    kind = "model" if path.suffix == ".ckpt" else "result"
    artifact = wandb.Artifact(f"{name}-{path.stem}-{experiment.id}", type=kind)
    artifact.add_file(str(path))
    keep(artifact)


def _finish(logger: Logger) -> None:
    """End the logger's run: the next job of a sweep, in the same process, is a run of its own."""
    experiment: Any = getattr(logger, "experiment", None)
    for name in ("finish", "close"):  # wandb; TensorBoard
        method = getattr(experiment, name, None)
        if callable(method):
            method()
            return
