"""Runs that have not hit the teacher: the share of their signs that is wrong, seen and computed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ste_lightning.theory.estimates import Estimate
from ste_lightning.theory.statistics import average
from ste_lightning.theory.studies.cells import label
from ste_lightning.theory.studies.runner import Result
from ste_lightning.theory.wandering import wandering

__all__ = ["computed", "wandering_rows", "window_of", "wrong_share"]


def window_of(rule: Any) -> float:
    """Return the width of a rule's window; infinity for the identity."""
    return float(rule["width"]) if isinstance(rule, dict) else math.inf


def wrong_share(result: Result) -> Estimate | None:
    """Return the share of wrong signs at the end, over trials that have not hit w*; None below 8.

    At N where some runs rest, those that do not are the ones that happen to be farther away.
    """
    columns = result.columns
    away = [d for d, hit in zip(columns["distance"], columns["last"], strict=True) if not hit]
    return average([d / result.settings["n"] for d in away]) if len(away) >= 8 else None


def computed(result: Result) -> float:
    """Return the share of wrong signs by :func:`ste_lightning.theory.wandering.wandering`."""
    s = result.settings
    width, ratio = window_of(s["rule"]), s["samples"] / s["n"]
    return wandering(ratio, width=width, concentration=1 / s.get("m", 4)).wrong


def wandering_rows(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Return a row per cell: share of wrong signs, measured and computed."""
    rows = []
    for r in results:
        seen, expected = wrong_share(r), computed(r)
        row = {"m": r.settings.get("m", 4), "rule": label(r.settings["rule"])}
        row |= {"N / n": f"{r.settings['samples'] / r.settings['n']:g}"}
        row |= {"wrong": str(seen or ""), "computed": f"{expected:.4f}"}
        row["ratio"] = f"{seen.value / expected:.3f}" if seen else ""
        rows.append(row)
    return rows
