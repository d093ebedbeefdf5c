"""What the tables of results say, for the pages of rules and quantizers."""

from __future__ import annotations

import csv
import functools
import statistics
from collections import defaultdict
from pathlib import Path

from ste_lightning.running.intervals import student_t

__all__ = ["accuracies", "difference", "mean"]

RESULTS = Path(__file__).parents[2] / "results"


@functools.cache
def accuracies(table: str) -> dict[str, dict[int, float]]:
    """Return accuracy by setting and seed; empty where the table is not there."""
    found: dict[str, dict[int, float]] = defaultdict(dict)
    path = RESULTS / f"{table}.csv"
    if path.is_file():
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                found[row["setting"]][int(row["seed"])] = float(row["value"])
    return dict(found)


def mean(table: str, setting: str) -> str:
    """Return the mean accuracy of a setting; empty where it was not measured."""
    runs = accuracies(table).get(setting)
    return f"{statistics.fmean(runs.values()):.4f}" if runs else ""


def difference(table: str, setting: str, twin: str = "float") -> str:
    """Return accuracy with its interval, and the mean difference to the float network."""
    runs, base = accuracies(table).get(setting, {}), accuracies(table).get(twin, {})
    if not runs:
        return ""
    text = f"{student_t(list(runs.values()))} over {len(runs)} seeds"
    pairs = [runs[seed] - base[seed] for seed in runs if seed in base]
    return f"{text}; {statistics.fmean(pairs):+.4f} to the float network" if pairs else text
