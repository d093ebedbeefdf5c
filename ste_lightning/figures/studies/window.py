"""N50 against the width of the backward rule's window."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from ste_lightning.figures.studies.style import COLORS, grid, legend
from ste_lightning.theory.studies import tables
from ste_lightning.theory.studies.cells import label

if TYPE_CHECKING:
    from ste_lightning.theory.studies.runner import Result

__all__ = ["window_figure"]


def window_figure(results: Sequence[Result]) -> Figure:
    """Draw N50 / n against the width, a curve per n; a ring marks the best width.

    Args:
        results: cells over n, samples and rules with a ``width``.
    """
    widths = {label(r.settings["rule"]): r.settings["rule"]["width"] for r in results}
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    found = tables.thresholds(results)
    for n, color in zip(sorted({t.n for t in found}), COLORS, strict=False):
        members = [t for t in found if t.n == n and not math.isnan(t.n50_last.value)]
        points = sorted(
            ((widths[t.group["rule"]], t.n50_last) for t in members), key=lambda p: p[0]
        )
        if not points:
            continue
        x = [width for width, _ in points]
        value = np.array([e.value for _, e in points])
        spread = [value - [e.low for _, e in points], [e.high for _, e in points] - value]
        axes.errorbar(
            x,
            value / n,
            np.maximum(spread, 0) / n,
            color=color,
            marker="o",
            capsize=2,
            label=f"n = {n}",
        )
        best = int(value.argmin())
        axes.plot(x[best], value[best] / n, "o", color=color, markersize=13, fillstyle="none")
    axes.set_xscale("log")
    ticks = sorted(set(widths.values()))
    axes.set_xticks(ticks, [f"{width:g}" for width in ticks])
    axes.set(xlabel="window: f'(a) = 1 for |a| up to", ylabel="N50 / n, last iterate")
    legend(axes)
    grid(axes)
    return figure
