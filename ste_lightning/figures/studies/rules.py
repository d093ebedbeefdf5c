"""N50 of every backward rule."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from ste_lightning.figures.studies.style import AVERAGED, LAST, clean, shared_settings
from ste_lightning.theory.studies import tables

if TYPE_CHECKING:
    from ste_lightning.theory.studies.runner import Result

__all__ = ["rules_figure"]


def rules_figure(results: Sequence[Result]) -> Figure:
    """Draw N50 of every rule with its interval, best on top; those that fail say why."""
    found = sorted(tables.thresholds(results), key=lambda t: -tables.order(t.n50_last))
    rows = {row["rule"]: row for row in tables.rule_rows(results)}
    names = [t.group.get("rule", next(iter(rows))) for t in found]  # one rule alone does not vary
    figure = Figure(figsize=(8.5, 1.4 + 0.32 * len(found)), layout="constrained")
    axes = figure.subplots()
    right = max(max(t.samples) for t in found)
    for place, (t, name) in enumerate(zip(found, names, strict=True)):
        for e, color, marker, shift in (
            (t.n50_last, LAST, "o", 0.12),
            (t.n50_ergodic, AVERAGED, "D", -0.12),
        ):
            if math.isnan(e.value):
                continue
            # Open ends leave the axes.
            spread = [[e.value - e.low], [min(e.high, 2 * right) - e.value]]
            axes.errorbar(
                e.value,
                place + shift,
                xerr=spread,
                color=color,
                marker=marker,
                markersize=5,
                capsize=2,
            )
        if math.isnan(t.n50_last.value):
            reason = str(rows[name]["in expectation"]).split(": ")[-1]
            text = f"recovers in {max(t.last):.0%} at N = {right}"
            text += "" if reason == "descends" else f"; {reason}"
            axes.annotate(text, (min(t.samples), place), va="center", fontsize=8, color=LAST)
    axes.set_yticks(range(len(found)), names)
    axes.set_xscale("log", base=2)
    axes.set_xlim(min(t.samples[0] for t in found) / 1.1, right * 1.1)
    axes.set_ylim(-0.6, len(found) - 0.4)
    ticks = sorted({N for t in found for N in t.samples if N & (N - 1) == 0})
    axes.set_xticks(ticks, [str(N) for N in ticks])
    axes.set_xlabel("N50: samples at which half of the trials recover (orange last, blue averaged)")
    title = "How many samples does each backward rule need?"
    shared = f"{shared_settings(results)}, no label noise; 95 % intervals"
    axes.set_title(f"{title}\n{shared}", fontsize=10)
    axes.grid(axis="x", color="#e8e8e8", linewidth=0.8)
    axes.set_axisbelow(True)
    clean(axes)
    return figure
