"""Time at the teacher, escapes and returns: seen, predicted, and how well data sets agree."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ste_lightning.theory.statistics import correlation
from ste_lightning.theory.studies.cells import label
from ste_lightning.theory.studies.runner import Result
from ste_lightning.theory.studies.tables import varied

__all__ = ["Quantities", "quantities", "recurrence_rows", "recurrence_summary", "same_data"]

Row = dict[str, Any]
Quantities = tuple[Tensor, Tensor, Tensor]
"""Time at w*, escapes per step and logarithm of the mean return time, a number per data set."""

_COLUMNS = ("time at w*", "escapes/1000", "return time")


def quantities(result: Result, source: str = "") -> Quantities:
    """Return what was seen in a cell (``source=""``), ``predicted`` or predicted ``decoupled``."""
    names = ("fraction", "escape_rate", "return_time")
    if not source:
        names = ("fraction", "escapes", "return_time")
    time, escapes, away = (
        torch.tensor(result.columns[f"{source}_{name}" if source else name], dtype=torch.float64)
        for name in names
    )
    if not source:
        escapes = escapes / _counted(result)
    return time, escapes, away.log()


def _counted(result: Result) -> int:
    return int(result.settings.get("steps", 2000) - result.settings.get("burn_in", 0))


def same_data(results: Sequence[Result]) -> list[list[Result]]:
    """Return the cells in groups of runs on the same data sets, which differ in step size alone."""
    runs: dict[str, list[Result]] = {}
    for result in results:
        # Only x_0 / lr counts, so another step size is another start.
        settings = {key: value for key, value in result.settings.items() if key != "lr"}
        runs.setdefault(json.dumps(settings, sort_keys=True), []).append(result)
    return list(runs.values())


def recurrence_rows(results: Sequence[Result]) -> list[Row]:
    """Return rows per cell: what was seen, predicted, and correlations over data sets.

    ``correlation`` is between seen and predicted, ``decoupled`` between seen and the formula of
    :mod:`ste_lightning.theory.prediction`, ``two runs`` between two runs on the same data: of
    that, a perfect prediction would reach the square root. Of return times it is that of the
    logarithms. At the end the same over all noises, for every N.
    """
    keys = [key for key in varied(results) if key != "lr"]
    rows = []
    pooled: dict[int, list[list[Result]]] = {}
    for runs in same_data(results):
        settings = {key: label(runs[0].settings.get(key, "")) for key in keys}
        rows += [{**settings, **row} for row in (*_values(runs), *_correlations([runs]))]
        pooled.setdefault(runs[0].settings["samples"], []).append(runs)
    for samples, members in pooled.items():
        if len(members) > 1:
            settings = dict.fromkeys(keys, "") | {"noise": "all", "samples": str(samples)}
            rows += [{**settings, **row} for row in _correlations(members)]
    return rows


def recurrence_summary(results: Sequence[Result]) -> list[Row]:
    """Return a row per setting: seen beside predicted, and how well data sets agree with it.

    ``correlation`` is that of the time at w* over the data sets, with the prediction.
    """
    keys = [key for key in varied(results) if key != "lr"]
    rows = []
    for runs in same_data(results):
        *seen, predicted = _values(runs)
        correlation, *_ = _correlations([runs])
        row: Row = {key: label(runs[0].settings.get(key, "")) for key in keys}
        for column in _COLUMNS:
            row[column] = seen[0][column]
            row[f"{column}, predicted"] = predicted[column]
        row["correlation"] = correlation[_COLUMNS[0]]
        row["other step sizes"] = ", ".join(one[_COLUMNS[0]].split(" ")[0] for one in seen[1:])
        rows.append(row)
    return rows


def _values(runs: Sequence[Result]) -> Iterator[Row]:
    for result in runs:
        c = result.columns
        time, escapes, _ = quantities(result)
        returns = sum(c["returns"])
        away = sum(t * k for t, k in zip(c["return_time"], c["returns"], strict=True) if k)
        error = 1.96 * float(time.std()) / math.sqrt(len(time))
        yield {
            "": "seen" if result is runs[0] else f"seen, step size {result.settings['lr']:g}",
            "time at w*": f"{time.mean():.3f} ± {error:.3f}",
            "escapes/1000": f"{1000 * escapes.mean():.1f}",
            "return time": f"{away / returns:.2f}" if returns else "none",
            "longest": str(max(c["longest_return"])),
            "averaged = w*": f"{torch.tensor(c['ergodic']).double().mean():.2f}",
        }
    time, escapes, _ = quantities(runs[0], "predicted")
    rate = float(escapes.mean())
    yield {
        "": "predicted",
        "time at w*": f"{time.mean():.3f}",
        "escapes/1000": f"{1000 * rate:.1f}",
        "return time": f"{(1 - float(time.mean())) / rate:.2f}" if rate else "none",
    }


def _correlations(members: Sequence[Sequence[Result]]) -> Iterator[Row]:
    seen = _joined([quantities(runs[0]) for runs in members])
    for name, source in (("correlation", "predicted"), ("decoupled", "decoupled")):
        predicted = _joined([quantities(runs[0], source) for runs in members])
        yield _compared(name, seen, predicted)
    if all(len(runs) > 1 for runs in members):
        yield _compared("two runs", seen, _joined([quantities(runs[-1]) for runs in members]))


def _joined(parts: Sequence[Quantities]) -> Quantities:
    time, escapes, away = (torch.cat(part) for part in zip(*parts, strict=True))
    return time, escapes, away


def _compared(name: str, seen: Quantities, other: Quantities) -> Row:
    row: Row = {"": name}
    for column, x, y in zip(_COLUMNS, seen, other, strict=True):
        found = correlation(x, y)
        known = not math.isnan(found.value)
        row[column] = f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]" if known else ""
    return row
