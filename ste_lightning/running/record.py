"""What a run leaves behind: first its numbers, then its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from matplotlib.figure import Figure

from ste_lightning.figures.finished import Finished
from ste_lightning.io.whole_file import write_json
from ste_lightning.running import files, report
from ste_lightning.running.failures import described, warning
from ste_lightning.running.parts import Parts
from ste_lightning.running.provenance import provenance
from ste_lightning.running.resuming import without_resume
from ste_lightning.running.settings import Settings

__all__ = ["draw", "origins", "record"]


def origins() -> dict[str, Any]:
    """Return the run's overrides and where its numbers come from."""
    return {"overrides": without_resume(HydraConfig.get().overrides.task), **provenance()}


def record(
    settings: Settings,
    origin: Mapping[str, Any],
    metrics: Mapping[str, float],
    seconds: float,
    training: float | None,
    folder: Path,
) -> None:
    """Print the final table and write ``results.json``.

    Args:
        settings: of the run.
        origin: of :func:`origins`.
        metrics: metric -> value.
        seconds: what the run took.
        training: seconds of training without its warm-up; None if nothing was trained.
        folder: the run's folder.

    Raises:
        ConfigurationError: where the file cannot be written; the table is printed even then.
    """
    try:
        write_json(
            folder / files.RESULTS,
            {
                "name": settings["name"],
                "seed": settings["seed"],
                "metrics": dict(metrics),
                "seconds": round(seconds, 3),
                "training_seconds": None if training is None else round(training, 3),
                **origin,
            },
        )
    finally:
        _print(settings, origin["overrides"], metrics, seconds, folder)


def _print(
    settings: Settings,
    overrides: Sequence[str],
    metrics: Mapping[str, float],
    seconds: float,
    folder: Path,
) -> None:
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        report.print_line(overrides, metrics, settings["report"], seconds)
        return
    notes = [f"{seconds:.1f} s; results, checkpoints and figures in {_near(folder)}"]
    absent = [name for name in settings["report"] if name not in metrics]
    if absent:
        notes.append(f"not measured in this run: {', '.join(absent)}")
    title = f"{settings['name']}, seed {settings['seed']}"
    report.print_run(title, metrics, settings["report"], settings["expected"], notes)


def draw(parts: Parts, run: Finished, folder: Path) -> dict[str, Figure]:
    """Draw and return the run's figures; one that fails costs itself alone."""
    drawn: dict[str, Figure] = {}
    for name, function in parts.figures.items():
        try:
            figure = function(run)
            figure.savefig(folder / f"{name}.png", dpi=150)
            drawn[name] = figure
        except Exception as error:
            warning(f"figures.{name} could not be drawn, all else is kept: {described(error)}")
    return drawn


def _near(folder: Path) -> str:
    try:
        return str(folder.relative_to(Path.cwd()))
    except ValueError:
        return str(folder)
