"""report.html of a run, a sweep and a study: made from files, so that it can be made again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning as L
import torch

import ste_lightning
from ste_lightning.deploy.report import interleaved_latency
from ste_lightning.errors import require
from ste_lightning.io.whole_file import write_json, write_text
from ste_lightning.reports.html.library import NOT_INSTALLED, drawing_library, installed
from ste_lightning.reports.html.network import facts_of_network
from ste_lightning.reports.html.page import Page
from ste_lightning.reports.html.run import run_page
from ste_lightning.reports.html.sweep import sweep_page
from ste_lightning.running import files, recipes
from ste_lightning.running.failures import described, warning
from ste_lightning.running.metrics_file import history
from ste_lightning.running.reading import read_json, results_of, settings_of
from ste_lightning.running.restoring import evaluation_samples
from ste_lightning.running.sweep_rows import Sweep, setting_of
from ste_lightning.running.sweep_table import Line, shown

if TYPE_CHECKING:
    from ste_lightning.theory.studies.runner import Result

__all__ = ["attempted", "report_run", "write_run_page", "write_study_page", "write_sweep_page"]

_SECONDS = 0.05  # to time one prediction


def report_run(
    model: L.LightningModule,
    data: Any,
    callbacks: Iterable[L.Callback],
    folder: Path,
    steps_per_second: float | None,
) -> Path | None:
    """Write what the page needs and the page; what goes wrong costs the page only.

    Args:
        model, data, callbacks: of the run.
        folder: the run's, with all other files in it.
        steps_per_second: of the training.

    Returns:
        The page's path; None where it could not be made, which a line on stderr says.
    """
    try:
        facts = collect_facts(model, data, callbacks, steps_per_second)
        write_json(folder / files.FACTS, facts)
    except Exception as error:
        warning(f"report.html will lack what the network tells: {described(error)}")
    return attempted(lambda: write_run_page(folder))


def attempted(write: Callable[[], Path]) -> Path | None:
    """Write a page; what goes wrong costs the page only, and is said in a line on stderr."""
    if installed() is None:
        warning(f"no {files.PAGE}: {NOT_INSTALLED} (or say write_report=false)")
        return None
    try:
        return write()
    except Exception as error:
        warning(f"{files.PAGE} could not be made, all else is kept: {described(error)}")
        return None


def collect_facts(
    model: L.LightningModule,
    data: Any,
    callbacks: Iterable[L.Callback],
    steps_per_second: float | None = None,
) -> dict[str, Any]:
    """Return what the files of a run do not say, from its model and data."""
    samples = _samples(model, data)
    facts = facts_of_network(model, data, callbacks, samples)
    speed = {} if steps_per_second is None else {"steps_per_second": steps_per_second}
    if samples is not None:
        speed["sample_ms"] = 1e3 * _seconds(model, samples[:1])
    return {**facts, "speed": speed}


def _samples(model: L.LightningModule, data: Any) -> torch.Tensor | None:
    """Return a few inputs; None where there are none that the model takes as they are."""
    try:
        samples = evaluation_samples(data, 1).to(model.device)
        with torch.no_grad():
            model.eval()(samples[:1])
    except Exception:  # a network of its own kind: the page does without
        return None
    return samples


def _seconds(model: L.LightningModule, sample: torch.Tensor) -> float:
    def predict() -> None:
        with torch.no_grad():
            model(sample)

    return interleaved_latency([predict], _SECONDS)[0]


def write_run_page(folder: Path) -> Path:
    """Make report.html from the files of a run's folder.

    Raises:
        ConfigurationError: where no run has finished, or vl-convert is not installed.
    """
    finished = (folder / files.RESULTS).is_file()
    require(finished, "FOLDER", str(folder), "no run has finished there")
    results, settings = results_of(folder), settings_of(folder)
    rows = history(folder / files.METRICS)
    facts, exports = _optional(folder / files.FACTS), _optional(folder / files.EXPORTS)
    facts["exports"] = exports
    if files.trained(folder).is_file():
        facts["checkpoint"] = files.trained(folder).relative_to(folder).as_posix()
    return _written(folder, run_page(settings, results, rows, facts, _about(_recipe(results))))


def write_sweep_page(
    folder: Path,
    name: str,
    sweep: Sweep,
    table: Sequence[Line],
) -> Path:
    """Make report.html of a sweep.

    Args:
        folder, name: the sweep's.
        sweep: its runs.
        table: its lines.
    """
    metrics = [metric for metric in table[0].values if metric != "seconds"]
    rows = [{"setting": setting_of(row, sweep.varied), **row} for row in sweep.rows]
    estimates = [
        {"metric": metric, "name": setting_of(line.settings, sweep.varied), "mean": value.mean}
        | ({} if value.low is None else {"low": value.low, "high": value.high})
        for line in table
        for metric, value in line.values.items()
    ]
    failed = {path.name: said for path, said in sweep.failed.items()}
    page = sweep_page(name, rows, sweep.varied, metrics, estimates, shown(table), failed, _foot())
    return _written(folder, page)


def write_study_page(
    folder: Path, name: str, results: Sequence[Result], rows: Sequence[Mapping[str, Any]]
) -> Path:
    """Make report.html of a study.

    Args:
        folder, name: the study's; figure.png is taken from there.
        results, rows: its cells and the rows of its table.
    """
    from ste_lightning.reports.html.study import study_page

    figure = folder / "figure.png"
    return _written(folder, study_page(name, _about(name), results, rows, figure, _foot()))


def _written(folder: Path, page: Page) -> Path:
    path = folder / files.PAGE
    write_text(path, page.html(drawing_library()))
    return path


def _foot() -> str:
    return f"ste_lightning {ste_lightning.__version__}"


def _optional(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def _recipe(results: Mapping[str, Any]) -> str:
    """Return the name of the run's recipe, or nothing."""
    words = (one.lstrip("+").partition("=") for one in results["overrides"])
    return next((value for key, _, value in words if key == "recipe"), "")


def _about(recipe: str) -> str:
    """Return the first line of a recipe, which says what it is for."""
    file = recipes.names().get(recipe)
    return "" if file is None else recipes.describe(file)
