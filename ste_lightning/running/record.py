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
from ste_lightning.running import files, panel, report
from ste_lightning.running.failures import described, warning
from ste_lightning.running.parts import Parts
from ste_lightning.running.provenance import provenance
from ste_lightning.running.resuming import without_resume
from ste_lightning.running.settings import Settings

__all__ = ["draw", "origins", "record", "tell"]


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
    """Write ``results.json``.

    Args:
        settings: of the run.
        origin: of :func:`origins`.
        metrics: metric -> value.
        seconds: what the run took.
        training: seconds of training without its warm-up; None if nothing was trained.
        folder: the run's folder.

    Raises:
        ConfigurationError: where the file cannot be written.
    """
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


def tell(
    settings: Settings,
    overrides: Sequence[str],
    run: Finished,
    seconds: float,
    folder: Path,
) -> None:
    """Print the outcome: a panel, or one line for a run of a sweep.

    Args:
        settings, overrides: of the run.
        run: its outcome.
        seconds: what it took.
        folder: the run's folder.
    """
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        report.print_line(overrides, run.metrics, settings["report"], seconds)
        return
    absent = [name for name in settings["report"] if name not in run.metrics]
    try:
        packed = panel.size_line(run.model)
    except Exception as error:  # a network of its own kind costs this line alone
        packed = f"unknown: {described(error)}"
    panel.show(
        f"{settings['name']}, seed {settings['seed']}, {seconds:.1f} s",
        run.metrics,
        settings["report"],
        settings["expected"],
        run.history,
        packed,
        _near(folder),
        [f"not measured in this run: {', '.join(absent)}"] if absent else [],
    )


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


def _near(folder: Path) -> Path:
    here = Path.cwd()
    return folder.relative_to(here) if folder.is_relative_to(here) else folder
