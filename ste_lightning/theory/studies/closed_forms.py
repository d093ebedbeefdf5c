"""The table of closed forms against Monte Carlo."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ste_lightning.theory.studies.cells import label
from ste_lightning.theory.studies.runner import Result

__all__ = ["closed_form_rows"]


def closed_form_rows(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Return a row per rule: deviations from the closed form, in standard errors.

    Quantities whose samples do not vary at all are left out.
    """
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(label(result.settings.get("rule", "relu")), []).append(result)
    rows = []
    for rule, members in groups.items():
        expected, observed, error = (
            torch.tensor([x for r in members for x in r.columns[name]], dtype=torch.float64)
            for name in ("expected", "observed", "error")
        )
        z = ((observed - expected) / error)[error > 0]
        rows.append(
            {
                "rule": rule,
                "quantities": len(z),
                "rms deviation": f"{z.square().mean().sqrt():.2f} standard errors",
                "largest": f"{z.abs().max():.2f}",
                "within 4": f"{(z.abs() <= 4).double().mean():.3f}",
            }
        )
    return rows
