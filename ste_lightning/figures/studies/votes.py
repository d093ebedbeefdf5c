"""What a vote, or averaged latent weights, gain over the last iterate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from ste_lightning.figures.colours import PALETTE
from ste_lightning.figures.studies.style import grid, intervals
from ste_lightning.theory.statistics import student_mean
from ste_lightning.theory.studies.votes import gains

if TYPE_CHECKING:
    from ste_lightning.theory.studies.runner import Result

__all__ = ["votes_figure"]

_NAMES = {"vote": "vote of signs", "swa": "latents averaged (SWA)", "ema": "latents averaged (EMA)"}
_DATA = {"digits": "digits", "mnist5000": "MNIST-5000", "fashion_mnist": "Fashion-MNIST"}
_STEPS = {"constant": "constant step size", "linear": "step size falling to 0"}


def votes_figure(results: Sequence[Result]) -> Figure:
    """Draw the gains in points against the share of wrong labels: a column per data and size.

    Args:
        results: cells of the study ``votes``.
    """
    columns = sorted({(r.settings["inputs"], r.settings["samples"]) for r in results})
    columns.sort(key=lambda c: (list(_DATA).index(c[0]), c[1]))
    schedules = [s for s in _STEPS if any(r.settings["schedule"] == s for r in results)]
    figure = Figure(
        figsize=(1.9 * len(columns) + 1.6, 2.3 * len(schedules) + 1.3), layout="constrained"
    )
    panels = figure.subplots(len(schedules), len(columns), squeeze=False, sharex=True, sharey=True)
    for k_line, schedule in enumerate(schedules):
        line = panels[k_line]
        for axes, (inputs, samples) in zip(line, columns, strict=True):
            here = [
                r
                for r in results
                if (r.settings["inputs"], r.settings["samples"], r.settings["schedule"])
                == (inputs, samples, schedule)
            ]
            here.sort(key=lambda r: float(r.settings["wrong_labels"]))
            wrong = [100 * r.settings["wrong_labels"] for r in here]
            for k, (kept, name) in enumerate(_NAMES.items()):
                found = [student_mean([100 * x for x in gains(r, kept)]) for r in here]
                places = [x + 2.5 * (k - 1) for x in wrong]
                intervals(axes, places, found, fmt="o-", ms=3.5, color=PALETTE[k], label=name)
            axes.axhline(0, color="#777777", linewidth=1)
            axes.set_xticks(wrong, [f"{x:g} %" for x in wrong])
            grid(axes)
            if k_line == 0:
                axes.set_title(f"{_DATA[inputs]},\n{samples} pictures", fontsize=10)
        line[0].set_ylabel(_STEPS[schedule], fontsize=10)
    for axes in panels[-1]:
        axes.set_xlabel("wrong labels", fontsize=9)
    trials = len(results[0].columns["trial"])
    figure.suptitle(
        "What averaging gains over the last iterate, in points of test accuracy\n"
        f"binary perceptrons, {trials} networks each; bars: 95 % intervals of paired differences",
        fontsize=11,
    )
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure
