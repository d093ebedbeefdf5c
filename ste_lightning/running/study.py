"""What ``python -m ste_lightning.study`` does with a configuration."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from ste_lightning.errors import ConfigurationError, require, unknown
from ste_lightning.io.whole_file import write_csv, write_text
from ste_lightning.running import report
from ste_lightning.running.arguments import check_values
from ste_lightning.running.build import build_function
from ste_lightning.running.failures import described, warning
from ste_lightning.running.imports import import_own, own_folders_on_path
from ste_lightning.running.pages import attempted, write_study_page
from ste_lightning.running.reading import read_yaml
from ste_lightning.running.settings import completed
from ste_lightning.running.study_schema import Schema
from ste_lightning.theory.studies.cells import EXPERIMENTS, Cell, expand, shrink
from ste_lightning.theory.studies.kept import keep
from ste_lightning.theory.studies.runner import run

__all__ = ["study"]


def _check(settings: dict[str, Any]) -> None:
    """Refuse values of the wrong type before anything is simulated."""
    name = settings["base"].get("experiment", "simulate")
    experiment = EXPERIMENTS.get(name) if isinstance(name, str) else None
    if experiment is None:
        raise unknown("experiment", name, EXPERIMENTS)
    check_values("base", experiment, settings["base"])
    grids = {"grid": settings["grid"]}
    grids |= {f"parts.{name}": part for name, part in settings["parts"].items()}
    for where, grid in grids.items():
        require(isinstance(grid, dict), where, grid, "use setting: [values]")
        for key, values in grid.items():
            require(isinstance(values, list), f"{where}.{key}", values, "use a list of values")
            for value in values:
                check_values(where, experiment, {key: value})


def _check_effect(settings: Mapping[str, Any], overrides: Sequence[str]) -> None:
    """Refuse a setting of all cells that each of them has anew: it would change nothing."""
    parts = {f"parts.{name}": part for name, part in _parts(settings).items()} or {"grid": {}}
    for text in overrides:
        found = re.match(r"\+*(base|grid)\.(\w+)=(.*)", text)
        if found is None:
            continue
        place, key, value = found.groups()
        names = {key} | ({"samples_per_input"} if key == "samples" else set())
        shared = names & settings["grid"].keys() if place == "base" else set()
        own = [f"grid.{name}" for name in shared]
        own += [f"{where}.{name}" for where, part in parts.items() for name in names & part.keys()]
        every = bool(shared) or all(names & part.keys() for part in parts.values())
        by = next(iter(own), "")
        require(not every, f"{place}.{key}", value, f"it is set by {by}: change that")


def study(cfg: DictConfig) -> None:
    """Run what is missing of a study, print its table, write its files.

    The folder then holds ``cells/*.parquet``, ``results.parquet`` (a row per trial),
    ``table.csv``, ``config.yaml``, ``figure.png`` and ``report.html``.

    Raises:
        ConfigurationError: for settings that cannot work.
    """
    _leave_out_of_small(cfg, HydraConfig.get().overrides.task)
    given: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    settings = completed(given, Schema)
    folder = Path(settings["folder"])
    chosen = bool(settings["grid"] or settings["parts"])
    if not chosen:
        with contextlib.suppress(OSError):
            folder.rmdir()  # Hydra made it; it stays if something is in it
    require(chosen, "grid", settings["grid"], "choose a study: +recipe=NAME")
    _refuse_another_study(folder, settings["name"])
    _check(settings)
    _check_effect(settings, HydraConfig.get().overrides.task)
    own_folders_on_path()
    import_own(settings["imports"])
    torch.set_num_threads(1)  # the cells are what runs side by side
    cells = _cells(settings)
    # Built before the cells run: a name that is wrong is found now.
    table, short_table, figure = (
        None if settings[key] is None else build_function(key, settings[key])
        for key in ("table", "short_table", "figure")
    )
    try:
        (folder / "cells").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        said = error.strerror or str(error)
        raise ConfigurationError(f"folder={str(folder)!r} cannot be used: {said}.") from error
    results = run(cells, folder, settings["workers"], settings["launcher"])
    if settings["keep"] is not None:
        out = Path(settings["keep"]) / f"{settings['name']}.parquet"
        keep(cells, folder, out, _command())
    write_text(folder / "config.yaml", OmegaConf.to_yaml(cfg, resolve=True))
    notes = [f"{len(results)} cells, {sum(r.seconds for r in results):.0f} core seconds: {folder}"]
    rows = [] if table is None else table(results)
    if table is not None:
        write_csv(folder / "table.csv", rows)
        told = rows if short_table is None else short_table(results)
        if short_table is not None:
            notes.append(f"all {len(rows)} rows: {folder / 'table.csv'}")
        report.print_rows(settings["name"], told, notes)
    else:
        print(*notes)
    if figure is not None:
        try:
            figure(results).savefig(folder / "figure.png", dpi=150)
        except Exception as error:
            warning(f"figure could not be drawn, all else is kept: {described(error)}")
    if settings["write_report"]:
        attempted(lambda: write_study_page(folder, settings["name"], results, rows))


def _refuse_another_study(folder: Path, name: str) -> None:
    """Refuse a folder whose table and figure are another study's: they would be replaced."""
    file = folder / "config.yaml"
    if file.is_file():
        held = read_yaml(file, "name", resolve=False)["name"]
        remedy = f"it holds the study {held!r}: give another, hydra.run.dir=FOLDER"
        require(held == name, "folder", str(folder), remedy)


def _command() -> str:
    """Return the command line that repeats this study's results."""
    given = [re.sub(r"^\+\+base\.", "base.", one) for one in HydraConfig.get().overrides.task]
    no_part = ("keep=", "workers=", "launcher=", "write_report=", "small_n=", "figure=")
    given = [one for one in given if not one.startswith(no_part)]
    return shlex.join(["python", "-m", "ste_lightning.study", *given])


def _leave_out_of_small(cfg: DictConfig, overrides: Sequence[str]) -> None:
    """Take parts that the command line leaves out (``~parts.NAME``) from the small version's."""
    named = cfg.get("small_parts")
    gone = {one.removeprefix("~parts.").partition("=")[0] for one in overrides}
    if named and gone.intersection(named):
        cfg.small_parts = [name for name in named if name not in gone] or None


def _parts(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the parts of the grid that are run: of a small version those that it names."""
    parts: Mapping[str, Any] = settings["parts"]
    if settings["small"] and settings["small_parts"] is not None:
        for name in settings["small_parts"]:
            if name not in parts:
                raise unknown("part", name, parts)
        return {name: parts[name] for name in settings["small_parts"]}
    return parts


def _cells(settings: Mapping[str, Any]) -> list[Cell]:
    cells = expand(settings["base"], settings["grid"], _parts(settings))
    return shrink(cells, settings["small_n"]) if settings["small"] else cells


def write_page(folder: Path) -> Path:
    """Make report.html of a study's folder again.

    Raises:
        ConfigurationError: if it is not the folder of a study that has finished.
    """
    file = folder / "config.yaml"
    require(file.is_file(), "FOLDER", str(folder), "name the folder of a study")
    # The study may have run before a setting existed.
    known = read_yaml(file, "base", "grid", "parts", "name", resolve=False)
    settings = {**dataclasses.asdict(Schema()), **known}
    import_own(settings["imports"])
    cells = _cells(settings)
    missing = [c for c in cells if not (folder / "cells" / f"{c.key}.parquet").is_file()]
    require(not missing, "FOLDER", str(folder), f"{len(missing)} cells are missing: run the study")
    results = run(cells, folder, show=False)
    chosen = settings["table"] is not None
    rows = build_function("table", settings["table"])(results) if chosen else []
    return write_study_page(folder, settings["name"], results, rows)
