"""Train one row of a results table again and compare."""

from __future__ import annotations

import math
import statistics
from pathlib import Path

from ste_lightning.errors import ConfigurationError
from ste_lightning.running.results.plan import Job, Plan
from ste_lightning.running.results.rows import Row, read_rows
from ste_lightning.running.results.train import Trained, run_job

__all__ = ["allowed", "repeated"]

LEAST = 0.002
"""Other processors and versions round otherwise: so much is never a difference."""


def allowed(rows: list[Row]) -> float:
    """Return how far a repeated value may be from the table's: four deviations between seeds."""
    values = [float(row["value"]) for row in rows]
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return max(LEAST, 4 * spread)


def repeated(plan: Plan, work: Path, trained: Trained) -> list[str]:
    """Train the row that took least time again.

    Args:
        plan: whose table is checked.
        work: folder of the new run.
        trained: trains it.

    Returns:
        A line if the new value is too far away, or if there is no value.
    """
    names = {setting.name: setting for setting in plan.settings if not setting.teacher}
    rows = [row for row in read_rows(plan.table) if row["setting"] in names]
    if not rows:
        return []
    first = min(rows, key=lambda row: float(row["training_seconds"] or math.inf))
    job = Job(names[first["setting"]], first["seed"])
    try:
        again = run_job(plan, job, work, trained)
    except ConfigurationError as error:
        return [f"{plan.path.stem}, {job.setting.name}, seed {job.seed}: {error}"]
    same = [row for row in rows if row["setting"] == first["setting"]]
    off = abs(again["value"] - float(first["value"]))
    where = f"{plan.path.stem}, {job.setting.name}, seed {job.seed}"
    print(f"{where}: {again['value']} again, off {off:.4f}")
    if off <= allowed(same):
        return []
    told = f"{again['value']} is not the table's {first['value']} (allowed: {allowed(same):.4f})"
    return [f"{where}: {told}"]
