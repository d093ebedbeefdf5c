"""Tables of means over trials, and of where a mean is lowest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ste_lightning.theory.estimates import Estimate
from ste_lightning.theory.statistics import average, lowest
from ste_lightning.theory.studies.cells import label
from ste_lightning.theory.studies.runner import Result
from ste_lightning.theory.studies.tables import varied

__all__ = ["best_places", "best_rows", "mean_rows"]

Row = dict[str, Any]


def mean_rows(results: Sequence[Result], columns: Sequence[str]) -> list[Row]:
    """Return a row per cell: the means of some of its columns, with the bootstrap's intervals.

    Args:
        results: cells.
        columns: which; a cell without one has none.
    """
    keys = varied(results)
    return [
        {
            **{key: label(r.settings.get(key, "")) for key in keys},
            **{c: str(average(r.columns[c])) for c in columns if c in r.columns},
        }
        for r in results
    ]


def best_places(
    results: Sequence[Result], place: str, column: str
) -> list[tuple[Mapping[str, Any], Estimate]]:
    """Return, for every combination of the other settings, where a column's mean is lowest.

    Args:
        results: cells over ``place``, a numeric setting, with the same trials.
        place: the setting.
        column: the column.
    """
    keys = [key for key in varied(results) if key != place]
    groups: dict[str, list[Result]] = {}
    for r in results:
        groups.setdefault(str([r.settings.get(key) for key in keys]), []).append(r)
    found: list[tuple[Mapping[str, Any], Estimate]] = []
    for members in groups.values():
        members = sorted(members, key=lambda r: float(r.settings[place]))
        values = torch.tensor([r.columns[column] for r in members], dtype=torch.float64)
        where = lowest([float(r.settings[place]) for r in members], values)
        found.append(({key: members[0].settings.get(key) for key in keys}, where))
    return found


def best_rows(results: Sequence[Result], place: str, column: str) -> list[Row]:
    """Return a row per combination of the other settings: the best place and its interval."""
    return [
        {**{key: label(value) for key, value in group.items()}, f"best {place}": str(where)}
        for group, where in best_places(results, place, column)
    ]
