"""One weight between two levels: measured against the closed forms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ste_lightning.theory.statistics import average
from ste_lightning.theory.studies.cells import label
from ste_lightning.theory.studies.runner import Result
from ste_lightning.theory.studies.tables import varied

__all__ = ["QUANTITIES", "swing_rows", "swinging"]

QUANTITIES = ("up", "changes", "band")


def swinging(result: Result) -> dict[str, Tensor]:
    """Return the columns of the trials whose target lies within the grid, and ``moves``.

    ``moves``: the weight has changed level in the second half of the run, and should.
    """
    inside = torch.tensor(result.columns["inside"], dtype=torch.bool)
    found = {
        key: torch.tensor(values, dtype=torch.float64)[inside]
        for key, values in result.columns.items()
        if key not in ("trial", "inside")
    }
    found["moves"] = (found["changes"] > 0) & (found["expected_rests"] == 0)
    return found


def swing_rows(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Return a row per cell: how many weights rest or swing as computed, and mean deviations.

    The deviations are mean absolute differences over the weights that swing.
    """
    keys = varied(results)
    rows = []
    for r in results:
        found = swinging(r)
        agree = ((found["changes"] == 0) == (found["expected_rests"] > 0)).double()
        row: dict[str, Any] = {key: label(r.settings.get(key, "")) for key in keys}
        row |= {"rest": f"{(found['expected_rests'] > 0).double().mean():.2f}"}
        row |= {"as computed": str(average(agree))}
        moves = found["moves"].bool()
        for name in QUANTITIES:
            off = (found[name] - found[f"expected_{name}"]).abs()[moves]
            row[name] = f"{off.mean():.2g}" if len(off) else ""
        rows.append(row)
    return rows
