"""The files of a run's folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

__all__ = [
    "COMMAND",
    "CONFIG",
    "EXPORTS",
    "FACTS",
    "LOG",
    "METRICS",
    "PAGE",
    "REFUSAL",
    "RESULTS",
    "SWEEP",
    "discard",
    "holds_results",
    "is_fresh",
    "of_sweep",
    "trained",
]

RESULTS = "results.json"
"""A run's final numbers; a run without this file has not finished."""

CONFIG = "config.yaml"
"""A run's settings, resolved."""

METRICS = "metrics/metrics.csv"
"""What was logged, row by row."""

LOG = "train.log"
"""What Lightning and Hydra have to say, and tracebacks."""

FACTS = "report.json"
"""What the trained network itself tells, for the page."""

EXPORTS = "exports.json"
"""Size and speed of what was exported from a run, by format."""

PAGE = "report.html"
"""All of a run, a sweep or a study on one page."""

COMMAND = ".hydra/hydra.yaml"
"""What a run was started with; ``resume=FOLDER`` reads it."""

SWEEP = ".hydra/multirun.yaml"
"""What a sweep was started with; Hydra's own multirun.yaml is not written whole."""

REFUSAL = "error.txt"
"""Why a run of a sweep was refused."""


def holds_results(folder: Path) -> bool:
    """Return whether a run has left numbers or checkpoints in ``folder``."""
    return (folder / RESULTS).exists() or any(folder.glob("checkpoints/*.ckpt"))


def of_sweep(folder: Path) -> Path | None:
    """Return the file that says how a sweep was started; None if it is not a sweep's folder."""
    both = (folder / SWEEP, folder / "multirun.yaml")
    return next((path for path in both if path.is_file()), None)


def trained(folder: Path) -> Path:
    """Return the checkpoint of what a finished run has trained: the best, where one is kept."""
    best = folder / "checkpoints" / "best.ckpt"
    return best if best.is_file() else best.with_name("last.ckpt")


def is_fresh(folder: Path, ours: Iterable[str] = (".hydra",)) -> bool:
    """Return whether ``folder`` holds nothing yet but what Hydra writes before a run starts."""
    return all(entry.name in ours or entry.suffix == ".log" for entry in folder.iterdir())


def discard(folder: Path) -> None:
    """Remove the folder of a run that was refused, and the parents that it leaves empty.

    Those are parents below the current folder, as ``outputs/NAME``, which Hydra has made.
    """
    shutil.rmtree(folder, ignore_errors=True)
    here = Path.cwd()
    for parent in list(folder.resolve().parents)[:2]:
        if parent == here or not parent.is_relative_to(here):
            break
        try:
            parent.rmdir()
        except OSError:  # not empty: other runs live there
            break
