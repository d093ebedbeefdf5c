"""N50 against the width of the backward rule's window."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from ste_lightning.figures.colours import palette
from ste_lightning.figures.studies.style import grid, intervals, legend, shared_settings
from ste_lightning.theory.studies import tables
from ste_lightning.theory.studies.cells import label

if TYPE_CHECKING:
    from ste_lightning.theory.studies.runner import Result

__all__ = ["window_figure"]


def window_figure(results: Sequence[Result]) -> Figure:
    """Draw N50 / n against the width, a curve per n; a ring marks the best width.

    A hollow triangle is a bound: N50 lies above it, or below.

    Args:
        results: cells over n, samples and rules with a ``width``.
    """
    widths = {label(r.settings["rule"]): r.settings["rule"]["width"] for r in results}
    figure = Figure(figsize=(6.6, 4.2), layout="constrained")
    axes = figure.subplots()
    found = tables.thresholds(results)
    for n, color in zip(sorted({t.n for t in found}), palette(), strict=False):
        everything = [
            (widths[t.group.get("rule", next(iter(widths)))], t.n50_last) for t in found if t.n == n
        ]
        for width, e in everything:
            if math.isnan(e.value):
                above = math.isinf(e.high)
                place, marker = (e.low if above else e.high) / n, "^" if above else "v"
                axes.plot(width, place, marker, color=color, fillstyle="none")
        points = sorted((p for p in everything if not math.isnan(p[1].value)), key=lambda p: p[0])
        if not points:
            continue
        x, estimates = [width for width, _ in points], [e for _, e in points]
        intervals(axes, x, estimates, per=n, color=color, marker="o", label=f"n = {n}")
        best = min(range(len(x)), key=lambda i: estimates[i].value)
        value = estimates[best].value / n
        axes.plot(x[best], value, "o", color=color, markersize=13, fillstyle="none")
    axes.set_xscale("log")
    ticks = sorted(set(widths.values()))
    axes.set_xticks(ticks, [f"{width:g}" for width in ticks])
    axes.set(
        xlabel="window: f'(a) = 1 for |a| up to", ylabel="N50 / n, last iterate (lower is better)"
    )
    axes.set_title(
        "Which window of the backward rule needs the fewest samples?\n"
        f"{shared_settings(results)}; 95 % intervals; ring: best; hollow: outside the N run",
        fontsize=10,
    )
    legend(axes)
    grid(axes)
    return figure
