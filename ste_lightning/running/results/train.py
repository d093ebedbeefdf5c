"""Train what a plan says and its table does not hold yet."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Lock

from ste_lightning.errors import ConfigurationError
from ste_lightning.io.progress import progress
from ste_lightning.io.whole_file import write_csv
from ste_lightning.running import files
from ste_lightning.running.results.plan import Job, Plan
from ste_lightning.running.results.rows import Row, read_rows, row_of
from ste_lightning.running.resuming import newest

Trained = Callable[[list[str]], tuple[int, str]]
"""Trains with the given overrides; returns the exit status and what went wrong."""

__all__ = ["Trained", "missing", "run_job", "small_version", "train_plan"]


def small_version(plan: Plan, folder: Path) -> Plan:
    """Return the plan with one seed and its ``small`` overrides; its table goes to ``folder``."""
    settings = tuple(replace(s, overrides=(*s.overrides, *plan.small)) for s in plan.settings)
    return replace(
        plan, path=folder / plan.path.name, seeds=plan.seeds[:1], settings=settings, goals=()
    )


def missing(plan: Plan) -> list[Job]:
    """Return the runs that the table does not hold, in the plan's order."""
    there = {(row["setting"], row["seed"]) for row in read_rows(plan.table)}
    return [job for job in plan.jobs if (job.setting.name, job.seed) not in there]


def _teachers(plan: Plan, wanted: list[Job], work: Path) -> list[Job]:
    """Return the runs of the table that are to teach wanted ones, and are no longer in ``work``."""
    settings = {setting.name: setting for setting in plan.settings}
    twins = {
        Job(settings[job.setting.twin], job.seed)
        for job in wanted
        if job.setting.teacher and job.setting.twin is not None
    }
    twins.difference_update(wanted)
    return [
        job
        for job in plan.jobs
        if job in twins
        and not (_place(plan, job.setting.name, job.seed, work) / files.RESULTS).is_file()
    ]


def train_plan(plan: Plan, work: Path, trained: Trained, jobs: int = 1) -> list[str]:
    """Train the missing runs and add each one's row to the table when it has finished.

    A run that was stopped goes on from its last checkpoint the next time. Runs that learn from a
    twin begin when the others have finished; a twin whose row is there, but whose run is not in
    ``work``, is trained again for them.

    Args:
        plan: what to train.
        work: folder of the runs; a finished run that is still there is not trained again.
        trained: trains one run; is called from ``jobs`` threads.
        jobs: runs side by side.

    Returns:
        What went wrong, a line for each run without results.
    """
    wanted, wrong, lock = missing(plan), [], Lock()
    again = _teachers(plan, wanted, work)
    wanted += again
    with progress() as bar, ThreadPoolExecutor(jobs) as pool:
        task = bar.add_task(f"{plan.path.stem}: {len(wanted)} runs", total=len(wanted))

        def one(job: Job) -> None:
            try:
                row = run_job(plan, job, work, trained)
                with lock:
                    if job not in again:
                        _add(plan, row)
            except ConfigurationError as error:
                wrong.append(f"{plan.path.stem}, {job.setting.name}, seed {job.seed}: {error}")
            bar.advance(task)

        for teachers in (False, True):  # twins first
            list(pool.map(one, [job for job in wanted if job.setting.teacher is teachers]))
    return wrong


def _add(plan: Plan, row: Row) -> None:
    names = [setting.name for setting in plan.settings]
    rows = [*read_rows(plan.table), row]
    known = [one for one in rows if one["setting"] in names]
    other = [one for one in rows if one["setting"] not in names]
    known.sort(key=lambda one: (names.index(one["setting"]), one["seed"]))
    write_csv(plan.table, [*known, *other])


def _place(plan: Plan, setting: str, seed: int, work: Path) -> Path:
    return work / plan.path.stem / re.sub(r"[^\w.-]+", "_", setting) / str(seed)


def run_job(plan: Plan, job: Job, work: Path, trained: Trained) -> Row:
    """Train one run, or go on with it, and return its row.

    Raises:
        ConfigurationError: if it has no results, with the reason.
    """
    folder = _place(plan, job.setting.name, job.seed, work)
    teacher = "TEACHER"
    if job.setting.teacher and job.setting.twin is not None:
        teacher = str(files.trained(_place(plan, job.setting.twin, job.seed, work)))
    if not (folder / files.RESULTS).is_file():
        begun = newest(folder) is not None
        words = [f"resume={folder}"] if begun else plan.overrides(job, teacher)
        status, said = trained([*words, *(() if begun else (f"hydra.run.dir={folder}",))])
        if status != 0 or not (folder / files.RESULTS).is_file():
            raise ConfigurationError(said.strip() or f"exit status {status}")
    return row_of(folder, job.setting.name, plan.metric, plan.command(job))
