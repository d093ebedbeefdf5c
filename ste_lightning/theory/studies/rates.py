"""Tables of shares of trials: recovery, where training ended, who leaves the teacher."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ste_lightning.theory.statistics import wilson
from ste_lightning.theory.studies.cells import label
from ste_lightning.theory.studies.runner import Result
from ste_lightning.theory.studies.tables import varied

__all__ = ["optimizer_rows", "outcome_rows", "rate_rows"]

Row = dict[str, Any]


def _share(outcome: Tensor) -> str:
    low, high = wilson(outcome.sum(), len(outcome))
    return f"{outcome.double().mean():.2f} [{low:.2f}, {high:.2f}]"


def _settings(result: Result, keys: Sequence[str]) -> Row:
    return {key: label(result.settings.get(key, "")) for key in keys}


def rate_rows(results: Sequence[Result]) -> list[Row]:
    """Return a row per cell: recovery with Wilson's interval, shares of dead and cycling runs."""
    keys = varied(results)
    rows = []
    for result in results:
        row = _settings(result, keys)
        for iterate in ("last", "ergodic"):
            row[iterate] = _share(torch.tensor(result.columns[iterate]))
        for name in ("dead", "cycle"):  # not every experiment looks for them
            if name in result.columns:
                row[name] = f"{torch.tensor(result.columns[name]).double().mean():.2f}"
        rows.append(row)
    return rows


def outcome_rows(results: Sequence[Result]) -> list[Row]:
    """Return a row per cell: shares of trials that ended at w*, at -w* and elsewhere.

    Both layers together are often blind to the sign of w: then -w* is as good a solution.
    """
    keys = varied(results)
    rows = []
    for result in results:
        distance = torch.tensor(result.columns["distance"])
        n = result.settings["n"]
        rows.append(
            {
                **_settings(result, keys),
                "w*": _share(distance == 0),
                "-w*": _share(distance == n),
                "other": _share((distance > 0) & (distance < n)),
            }
        )
    return rows


def optimizer_rows(results: Sequence[Result]) -> list[Row]:
    """Return a row per cell: how many trials reach w*, leave it again, return, and stay.

    ``left`` and ``returned`` are shares of the trials that had reached w*.
    """
    keys = varied(results)
    rows = []
    for result in results:
        c = result.columns
        hit = torch.tensor(c["first_hit"]) >= 0
        left = (torch.tensor(c["escapes"]) > 0)[hit]
        stayed = torch.tensor(c["last"])[hit]
        rows.append(
            {
                **_settings(result, keys),
                "reached w*": _share(hit),
                "left it": _share(left) if bool(hit.any()) else "",
                "there at T": _share(stayed) if bool(hit.any()) else "",
                "escapes, most": max(c["escapes"]),
                "longest away": max(c["longest_return"]),
                "first hit, median": f"{torch.tensor(c['first_hit'])[hit].double().median():.0f}"
                if bool(hit.any())
                else "",
            }
        )
    return rows
