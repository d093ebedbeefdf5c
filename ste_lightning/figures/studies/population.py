"""Closed forms of the expected coarse gradient against Monte Carlo."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from ste_lightning.figures.studies.style import AVERAGED, LAST, grid, shared_settings
from ste_lightning.theory.studies.cells import label

if TYPE_CHECKING:
    from ste_lightning.theory.studies.runner import Result

__all__ = ["population_figure"]


def population_figure(results: Sequence[Result]) -> Figure:
    """Draw both components of the gradient over the angle, a panel per rule, at v = v*.

    Args:
        results: cells of the experiment ``coarse_gradient`` over rules and angles.
    """
    shown = [r for r in results if r.settings.get("v", "teacher") == "teacher"]
    rules = list(dict.fromkeys(label(r.settings.get("rule", "relu")) for r in shown))
    columns = min(3, len(rules))
    lines = -(-len(rules) // columns)
    figure = Figure(figsize=(3.4 * columns, 2.6 * lines), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True).flat
    for axes, rule in zip(panels, rules, strict=False):
        members = [r for r in shown if label(r.settings.get("rule", "relu")) == rule]
        members.sort(key=lambda r: float(r.settings["angle"]))
        angle = [r.settings["angle"] for r in members]
        for name, color in (("along", LAST), ("across", AVERAGED)):
            row = members[0].columns["quantity"].index(name)
            expected, observed, error = (
                np.array([r.columns[column][row] for r in members])
                for column in ("expected", "observed", "error")
            )
            axes.plot(angle, expected, color=color, linewidth=1.2)
            axes.errorbar(
                angle,
                observed,
                4 * error,
                color=color,
                marker=".",
                linestyle="",
                capsize=2,
                label="along w" if name == "along" else "across w, towards w*",
            )
        axes.set_title(rule, fontsize=10)
        axes.set_xticks([0, 45, 90, 135, 180])
        grid(axes)
    figure.supxlabel("angle between w and w* (degrees)", fontsize=10)
    figure.supylabel("expected coarse gradient", fontsize=10)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside upper center",
        ncols=2,
        frameon=False,
        fontsize=9,
        title="The expected coarse gradient: where it is below 0, a step turns w towards w*\n"
        f"{shared_settings(shown)}; lines: computed; dots: sampled, ± 4 standard errors",
        title_fontsize=9,
    )
    return figure
