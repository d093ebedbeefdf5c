"""Combine the runs of a sweep into tables and figures, whatever became of each."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from ste_lightning.errors import ConfigurationError, require
from ste_lightning.io.whole_file import write_csv, write_text
from ste_lightning.running import report, sweep_table
from ste_lightning.running.hydra_plugins import register
from ste_lightning.running.sweep_rows import Row, Sweep, collect

__all__ = ["Combine", "combine", "recombine"]


class Combine(Callback):
    """Hydra callback: after the last run, combine the runs' files, see :func:`combine`.

    Attributes:
        open: the sweep that has begun and has not been combined, with its configuration.
        failed: whether runs of the last sweep have no results.
    """

    open: ClassVar[tuple[Path, DictConfig] | None] = None
    failed: ClassVar[bool] = False

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Remember the folder, to combine what there is if the sweep is stopped.

        The sweep's configuration goes there too: not every sweeper writes it.
        """
        folder = Path(config.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "multirun.yaml", OmegaConf.to_yaml(config))
        Combine.open = (folder, config)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Combine what the runs left behind."""
        Combine.finish()

    @classmethod
    def finish(cls) -> None:
        """Combine the sweep that has begun, if any."""
        if cls.open is not None:
            (folder, config), cls.open = cls.open, None
            cls.failed = folder.is_dir() and not combine(folder, config)


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
        _tables(folder, str(config.name), sweep, wanted, settings)
        _figures(folder, sweep, settings.get("figures") or {})
    for path, error in sweep.failed.items():
        said = error.splitlines()[0] if error else "it was stopped"
        print(f"no results in {path}: {said}", file=sys.stderr)
    if sweep.failed:
        print(f"To run what is missing: resume={folder}", file=sys.stderr)
    return not sweep.failed


def _tables(
    folder: Path, name: str, sweep: Sweep, wanted: Sequence[str], settings: Mapping[str, Any]
) -> None:
    write_csv(folder / "sweep.csv", sweep.rows)
    others = (*sweep.varied, "seconds", sweep_table.SEED)
    metrics = wanted or [key for key in sweep.rows[0] if key not in others]
    compared = {"baseline": settings.get("baseline"), "interval": settings.get("interval", "t")}
    notes = [f"{len(sweep.rows)} runs; tables and figures in {folder}"]
    try:
        table = sweep_table.lines(sweep.rows, sweep.varied, metrics, **compared)
    except ConfigurationError as error:  # the baseline has no results, say: still a table
        notes.append(str(error))
        table = sweep_table.lines(sweep.rows, sweep.varied, metrics)
    write_csv(folder / "table.csv", sweep_table.flat(table))
    write_text(folder / "table.md", sweep_table.markdown(table))
    write_text(folder / "table.tex", sweep_table.latex(table))
    if any(line.runs > 1 for line in table):
        notes.append("means with 95 % intervals over seeds; differences seed by seed")
    report.print_rows(name, sweep_table.shown(table), [*notes, *_best(folder)])


def _best(folder: Path) -> list[str]:
    """Return what a search has found best, if the sweep was one."""
    file = folder / "optimization_results.yaml"
    if not file.is_file():
        return []
    found: Any = OmegaConf.to_container(OmegaConf.load(file))
    settings = " ".join(f"{key}={value}" for key, value in found.get("best_params", {}).items())
    return [f"best: {settings} ({found.get('best_value')})"]


def _figures(folder: Path, sweep: Sweep, nodes: Mapping[str, Any]) -> None:
    from ste_lightning.running.build import build_function  # these need torch
    from ste_lightning.running.failures import described, warning

    rows = [{"setting": _setting(row, sweep.varied), **row} for row in sweep.rows]
    for name, node in nodes.items():
        try:
            figure = build_function(f"sweep.figures.{name}", node)(rows)
            figure.savefig(folder / f"{name}.png", dpi=150)
        except Exception as error:
            warning(f"sweep.figures.{name} could not be drawn: {described(error)}")


def _setting(row: Row, varied: Sequence[str]) -> str:
    """Return what was swept: ``sign``, or ``quantizer=sign, data.shift=1`` for several keys."""
    keys = [key for key in varied if key != sweep_table.SEED and key in row]
    if len(keys) == 1:
        return str(row[keys[0]])
    return ", ".join(f"{key}={row[key]}" for key in keys)


def recombine(folder: Path) -> bool:
    """Combine a sweep's folder again, after some of its runs have been run or removed.

    Raises:
        ConfigurationError: if it is not the folder of a sweep.
    """
    file = folder / "multirun.yaml"
    require(file.is_file(), "FOLDER", str(folder), "name the folder of a sweep (--multirun)")
    register()
    config = OmegaConf.load(file)
    if not isinstance(config, DictConfig) or "sweep" not in config:
        raise ConfigurationError(f"{file} cannot be used: it is not the file of a sweep.")
    return combine(folder, config)
