"""Run the cells that are not stored yet, on all cores or on a Ray cluster."""

from __future__ import annotations

import dataclasses
import importlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from ste_lightning.errors import ConfigurationError, require, unknown
from ste_lightning.io.progress import progress
from ste_lightning.theory.engine.chunks import cores
from ste_lightning.theory.studies import store
from ste_lightning.theory.studies.cells import COMPILED, Cell
from ste_lightning.theory.studies.measure import measure, origin

__all__ = ["Result", "run"]

Measured = tuple[Cell, store.Columns, dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Result:
    """A stored cell.

    Attributes:
        settings: of the cell.
        columns: a list per column, an entry per trial.
        seconds: what it took.
    """

    settings: Mapping[str, Any]
    columns: store.Columns
    seconds: float


def run(
    cells: Sequence[Cell],
    folder: Path,
    workers: int | None = None,
    launcher: str = "local",
    show: bool = True,
) -> list[Result]:
    """Run what is missing and return all cells, in the order given.

    Each cell is stored as soon as it is done, so an interrupted study goes on where it was.

    Args:
        cells: the grid.
        folder: where ``cells/KEY.parquet`` and ``results.parquet``, all cells in one table, are.
        workers: cells in work at once; default the cores this process may use for what is
            compiled, one for other experiments (their threads wait for the interpreter, and
            take longer than one), and with Ray four for each core of the cluster.
        launcher: ``local`` (threads of this process) or ``ray``.
        show: whether to show progress and the time left.

    Raises:
        ConfigurationError: for a setting that cannot work, a launcher that is not installed,
            or damaged files, before anything is run.
    """
    launchers = {"local": _local, "ray": _ray}
    if launcher not in launchers:
        raise unknown("launcher", launcher, launchers)
    require(workers is None or workers > 0, "workers", workers, "use a positive integer")
    require(len(cells) > 0, "cells", cells, "give at least one cell")
    files = {cell.key: folder / "cells" / f"{cell.key}.parquet" for cell in cells}
    stored = _stored(files)
    todo = sorted((c for c in cells if c.key not in stored), key=lambda c: -c.cost)
    total = sum(cell.cost for cell in todo)
    with progress(show and bool(todo)) as bar:
        # The bar is in units of work, so that the time left means something.
        task = bar.add_task(f"{len(todo)} of {len(cells)} cells", total=100)
        for cell, columns, provenance in launchers[launcher](todo, workers):
            store.write(files[cell.key], columns, provenance)
            stored[cell.key] = store.read(files[cell.key])
            bar.advance(task, 100 * cell.cost / total)
    results = []
    for cell in cells:
        columns, provenance = stored[cell.key]
        results.append(Result(cell.settings, columns, float(provenance["seconds"])))
    table = store.join([(result.settings, result.columns) for result in results])
    provenance = {"cells": [cell.key for cell in cells], **origin()}
    store.write(folder / "results.parquet", table, provenance)
    return results


def _stored(files: Mapping[str, Path]) -> dict[str, tuple[store.Columns, dict[str, Any]]]:
    """Read the cells that are there; name all that cannot be read at once."""
    found, broken = {}, []
    for key, file in files.items():
        if file.exists():
            try:
                found[key] = store.read(file)
            except ConfigurationError as error:
                broken.append(str(error))
    if broken:
        raise ConfigurationError("\n".join(broken))
    return found


def _local(cells: Sequence[Cell], workers: int | None) -> Iterator[Measured]:
    compiled = all(cell.settings.get("experiment", "simulate") in COMPILED for cell in cells)
    pool = ThreadPoolExecutor(workers or (cores() if compiled else 1))
    waiting: dict[Future[tuple[store.Columns, dict[str, Any]]], Cell] = {
        pool.submit(measure, cell.settings): cell for cell in cells
    }
    try:
        while waiting:
            done, _ = wait(waiting, return_when=FIRST_COMPLETED)
            # What succeeded is handed on, and stored, before a failure ends the study.
            for future in sorted(done, key=lambda f: f.exception() is not None):
                cell = waiting.pop(future)
                yield (cell, *future.result())
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _ray(cells: Sequence[Cell], workers: int | None) -> Iterator[Measured]:
    """Give every cell to the cluster as a task of one core; only results travel back."""
    if not cells:
        return
    try:
        ray: Any = importlib.import_module("ray")
    except ImportError as error:
        raise ConfigurationError(
            "launcher='ray' needs Ray, which is not installed: pip install 'ste-lightning[ray]'."
        ) from error
    ray.init(ignore_reinit_error=True)
    # A cell whose worker or machine dies is run again, as often as it takes: it has no effect
    # but its result, which is stored here, once.
    task = ray.remote(num_cpus=1, max_retries=-1)(measure)
    queue = iter(cells)
    waiting: dict[Any, Cell] = {}
    # Enough to keep the cluster busy: looking through all that wait takes time for each of them.
    most = workers or 4 * max(1, int(ray.cluster_resources().get("CPU", 1)))
    failure: BaseException | None = None
    while True:
        for cell in itertools.islice(queue, 0 if failure else most - len(waiting)):
            waiting[task.remote(cell.settings)] = cell
        if not waiting:
            break
        done, _ = ray.wait(list(waiting), num_returns=1)
        cell = waiting.pop(done[0])
        try:
            measured = ray.get(done[0])
        except ray.exceptions.RayTaskError as error:
            # What else is in work is stored before a failure ends the study.
            failure = failure or error.cause
            continue
        yield (cell, *measured)
    if failure:
        raise failure
