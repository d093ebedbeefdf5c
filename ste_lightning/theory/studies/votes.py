"""Paired differences between a vote, or averaged latents, and the last iterate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from scipy.stats import ttest_1samp

from ste_lightning.theory.statistics import student_mean
from ste_lightning.theory.studies.runner import Result
from ste_lightning.theory.votes import KEPT

__all__ = ["gains", "vote_rows"]


def gains(result: Result, kept: str, over: str = "last") -> list[float]:
    """Return each network's accuracy by ``kept`` less that by ``over``, the last iterate."""
    columns = result.columns
    return [a - b for a, b in zip(columns[kept], columns[over], strict=True)]


def vote_rows(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Return a row per cell: accuracy of the last iterate, and what each average gains in points.

    With the 95 % interval of Student's t over networks, and the paired t test's p.
    """
    rows = []
    for r in results:
        row: dict[str, Any] = {
            name: r.settings[name] for name in ("inputs", "samples", "wrong_labels", "schedule")
        }
        row["last"] = f"{sum(r.columns['last']) / len(r.columns['last']):.4f}"
        for kept in KEPT[1:]:
            points = [100 * x for x in gains(r, kept)]
            found = student_mean(points)
            p = ttest_1samp(points, 0.0).pvalue
            row[kept] = f"{found.value:+.2f} [{found.low:.2f}, {found.high:.2f}]"
            row[f"p {kept}"] = f"{p:.2g}"
        rows.append(row)
    return rows
