"""Combine the runs of a sweep into tables and figures, whatever became of each."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from ste_lightning.errors import ConfigurationError, require
from ste_lightning.io.progress import on_terminal
from ste_lightning.io.whole_file import write_csv, write_text
from ste_lightning.running import files, report, sweep_table
from ste_lightning.running.command import parsed
from ste_lightning.running.hydra_plugins import register
from ste_lightning.running.reading import read_yaml
from ste_lightning.running.sweep_rows import SEED, Sweep, collect, setting_of

__all__ = ["Combine", "combine", "recombine", "write_page"]


class Combine(Callback):
    """Hydra callback: after the last run, combine the runs' files, see :func:`combine`.

    Attributes:
        open: the sweep that has begun and has not been combined, with its configuration.
        failed: whether runs of the last sweep have no results.
        began: when it began.
    """

    open: ClassVar[tuple[Path, DictConfig] | None] = None
    failed: ClassVar[bool] = False
    began: ClassVar[float] = 0.0

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Remember the folder, to combine what there is if the sweep is stopped.

        The sweep's configuration goes there too: not every sweeper writes it, and Hydra's own may
        be killed while it does.
        """
        folder = Path(config.hydra.sweep.dir)
        for name in ("multirun.yaml", files.SWEEP):
            if config.resume is None or not (folder / name).is_file():
                write_text(folder / name, OmegaConf.to_yaml(config))
        Combine.open, Combine.began = (folder, config), time.monotonic()

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Say on a terminal which run it is, and how long the others will take."""
        if Combine.open is None or not on_terminal():  # not in the processes of a launcher
            return
        done, total = int(config.hydra.job.num), _runs(Combine.open[1])
        line = f"run {done + 1} of {max(total, done + 1)}"
        if done:
            left = (time.monotonic() - Combine.began) / done * max(total - done, 1)
            line += f", about {timedelta(seconds=round(left))} left"
        print(line, file=sys.stderr)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Combine what the runs left behind."""
        Combine.finish()

    @classmethod
    def finish(cls) -> None:
        """Combine the sweep that has begun, if any."""
        if cls.open is not None:
            (folder, config), cls.open = cls.open, None
            cls.failed = folder.is_dir() and not combine(folder, config)


def _runs(config: DictConfig) -> int:
    """Return how many runs a sweep has."""
    trials = OmegaConf.select(config, "hydra.sweeper.n_trials")
    if trials is not None:  # a search
        return int(trials)
    given = [parsed(one) for one in config.hydra.overrides.task]
    swept = {one.key_or_group for one in given if one is not None}
    for key, values in (OmegaConf.select(config, "hydra.sweeper.params") or {}).items():
        if key not in swept:
            given.append(parsed(f"{key}={values}"))
    lengths = [len(list(one.sweep_iterator())) for one in given if one and one.is_sweep_override()]
    return math.prod(lengths)


def combine(folder: Path, config: DictConfig) -> bool:
    """Write and print what a sweep's finished runs say, and name those that did not finish.

    Writes ``sweep.csv`` (a row per run), ``table.csv``, ``table.md`` and ``table.tex`` (a row per
    setting, with intervals and differences to the baseline) and the figures of ``sweep.figures``.
    It reads files only, so it works with launchers that run jobs in other processes.

    Args:
        folder: the sweep's.
        config: of the sweep: ``name``, ``report``, ``sweep``.

    Returns:
        Whether all runs have results.
    """
    sweep = collect(folder)
    if sweep.rows:
        settings: Mapping[str, Any] = OmegaConf.to_container(  # type: ignore[assignment]
            config.sweep, resolve=True
        )
        # a sweep over recipes has no report of its own, but its runs have
        wanted = list(config.report) or sweep.report
        table, notes = _lines(sweep, wanted, settings)
        _tables(folder, str(config.name), sweep, table, notes)
        _figures(folder, sweep, settings.get("figures") or {})
        if OmegaConf.select(config, "write_report"):
            from ste_lightning.running.pages import attempted, write_sweep_page  # these need torch

            attempted(lambda: write_sweep_page(folder, str(config.name), sweep, table))
    for path, error in sweep.failed.items():
        said = error.splitlines()[0] if error else "it was stopped"
        print(f"no results in {path}: {said}", file=sys.stderr)
    if sweep.failed:
        print(f"To run what is missing: resume={folder}", file=sys.stderr)
    return not sweep.failed


def _lines(
    sweep: Sweep, wanted: Sequence[str], settings: Mapping[str, Any]
) -> tuple[list[sweep_table.Line], list[str]]:
    """Return the table's lines, and why they are not compared with the baseline that was named."""
    others = (*sweep.varied, "seconds", SEED)
    metrics = wanted or [key for key in sweep.rows[0] if key not in others]
    compared = {"baseline": settings.get("baseline"), "interval": settings.get("interval", "t")}
    try:
        return sweep_table.lines(sweep.rows, sweep.varied, metrics, **compared), []
    except ConfigurationError as error:  # the baseline has no results, say: still a table
        return sweep_table.lines(sweep.rows, sweep.varied, metrics), [str(error)]


def _tables(
    folder: Path,
    name: str,
    sweep: Sweep,
    table: Sequence[sweep_table.Line],
    notes: Sequence[str],
) -> None:
    write_csv(folder / "sweep.csv", sweep.rows)
    write_csv(folder / "table.csv", sweep_table.flat(table))
    write_text(folder / "table.md", sweep_table.markdown(table))
    write_text(folder / "table.tex", sweep_table.latex(table))
    said = [f"{len(sweep.rows)} runs; tables and figures in {folder}", *notes]
    if any(line.runs > 1 for line in table):
        said.append("means with 95 % intervals over seeds; differences seed by seed")
    report.print_rows(name, sweep_table.shown(table), [*said, *_best(folder)])


def _best(folder: Path) -> list[str]:
    """Return what a search has found best, if the sweep was one."""
    file = folder / "optimization_results.yaml"
    if not file.is_file():
        return []
    found = read_yaml(file)
    settings = " ".join(f"{key}={value}" for key, value in found.get("best_params", {}).items())
    return [f"best: {settings} ({found.get('best_value')})"]


def _figures(folder: Path, sweep: Sweep, nodes: Mapping[str, Any]) -> None:
    from ste_lightning.running.build import build_function  # these need torch
    from ste_lightning.running.failures import described, warning

    rows = [{"setting": setting_of(row, sweep.varied), **row} for row in sweep.rows]
    for name, node in nodes.items():
        try:
            figure = build_function(f"sweep.figures.{name}", node)(rows)
            figure.savefig(folder / f"{name}.png", dpi=150)
        except Exception as error:
            warning(f"sweep.figures.{name} could not be drawn: {described(error)}")


def write_page(folder: Path) -> Path:
    """Make report.html of a sweep's folder.

    Raises:
        ConfigurationError: if it is not the folder of a sweep, or no run has finished.
    """
    from ste_lightning.running.pages import write_sweep_page

    config, sweep = _configuration(folder), collect(folder)
    require(bool(sweep.rows), "FOLDER", str(folder), "no run of the sweep has finished")
    settings: Any = OmegaConf.to_container(config.sweep, resolve=True)
    table, _ = _lines(sweep, list(config.report) or sweep.report, settings)
    return write_sweep_page(folder, str(config.name), sweep, table)


def recombine(folder: Path) -> bool:
    """Combine a sweep's folder again, after some of its runs have been run or removed.

    Raises:
        ConfigurationError: if it is not the folder of a sweep.
    """
    return combine(folder, _configuration(folder))


def _configuration(folder: Path) -> DictConfig:
    file = files.of_sweep(folder)
    if file is None:
        raise ConfigurationError(
            f"FOLDER={str(folder)!r} cannot be used: name the folder of a sweep (--multirun)."
        )
    register()
    return OmegaConf.create(read_yaml(file, "name", "report", "sweep", resolve=False))
