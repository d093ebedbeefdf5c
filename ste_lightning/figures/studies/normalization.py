"""Recovery by input distribution and normalization."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from ste_lightning.theory.studies.cells import label
from ste_lightning.theory.studies.tables import varied

if TYPE_CHECKING:
    from ste_lightning.theory.studies.runner import Result

__all__ = ["normalization_figure"]


def normalization_figure(results: Sequence[Result]) -> Figure:
    """Draw a table of recovery: inputs (or N, m) down, normalizations across, a panel a rule.

    A number is the last iterate's recovery; "†" marks cells in which most failures are dead
    runs, whose coarse gradient is exactly zero at positive loss.
    """
    others = [key for key in varied(results) if key not in ("rule", "normalize")]
    rules, norms = (
        list(dict.fromkeys(label(r.settings.get(key, default)) for r in results))
        for key, default in (("rule", "relu"), ("normalize", "none"))
    )
    inputs = list(dict.fromkeys(_row(r, others) for r in results))
    figure = Figure(
        figsize=(1.2 + 4.2 * len(rules), 1.3 + 0.42 * len(inputs)), layout="constrained"
    )
    panels = figure.subplots(1, len(rules), squeeze=False)[0]
    for axes, rule in zip(panels, rules, strict=True):
        shown = np.full((len(inputs), len(norms)), np.nan)
        for r in results:
            if label(r.settings.get("rule", "relu")) != rule:
                continue
            row = inputs.index(_row(r, others))
            column = norms.index(label(r.settings.get("normalize", "none")))
            rate, dead = np.mean(r.columns["last"]), np.mean(r.columns["dead"])
            shown[row, column] = rate
            mark = "†" if dead > (1 - rate) / 2 and dead > 0 else ""
            color = "white" if rate > 0.55 else "black"
            axes.text(column, row, f"{rate:.2f}{mark}", ha="center", va="center", color=color)
        axes.imshow(shown, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        axes.set_xticks(range(len(norms)), norms, fontsize=8)
        axes.set_yticks(range(len(inputs)), inputs, fontsize=8)
        axes.set_title(rule, fontsize=10)
    figure.suptitle("recovery of the last iterate († failures are mostly dead runs)", fontsize=10)
    return figure


def _row(result: Result, keys: Sequence[str]) -> str:
    if list(keys) == ["inputs"] or not keys:
        return label(result.settings.get("inputs", "gaussian"))
    return ", ".join(f"{key} = {label(result.settings.get(key, ''))}" for key in keys)
