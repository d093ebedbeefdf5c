"""How label noise scales: samples for half of the time at w*, and for the averaged iterate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from ste_lightning.figures.studies.style import AVERAGED, LAST, grid, intervals, shared_settings
from ste_lightning.theory.studies.noisy import scaling

if TYPE_CHECKING:
    from ste_lightning.theory.studies.runner import Result

__all__ = ["scaling_figure"]

_QUANTITIES = (
    ("half_time", "half of the time at w*", LAST, "o"),
    ("n50", "averaged iterate recovers (N50)", AVERAGED, "D"),
)


def scaling_figure(results: Sequence[Result]) -> Figure:
    """Draw both numbers of samples against n and against the noise; lines are predictions.

    Args:
        results: cells over n, noise and samples.
    """
    found = scaling(results)
    figure = Figure(figsize=(9.5, 4.3), layout="constrained")
    for axes, by, fixed in zip(figure.subplots(1, 2), ("n", "noise"), ("noise", "n"), strict=True):
        values = [getattr(s, fixed) for s in found]
        common = max(set(values), key=values.count)  # the value held fixed in most cells
        chosen = sorted((s for s in found if getattr(s, fixed) == common), key=lambda s: s.n)
        chosen.sort(key=lambda s: float(getattr(s, by)))
        x = [getattr(s, by) for s in chosen]
        for name, title, color, marker in _QUANTITIES:
            axes.plot(x, [getattr(s, f"{name}_predicted") for s in chosen], color=color)
            seen = [(getattr(s, by), getattr(s, name)) for s in chosen]
            known = [(place, e) for place, e in seen if not math.isnan(e.value)]
            intervals(
                axes,
                [place for place, _ in known],
                [e for _, e in known],
                color=color,
                marker=marker,
                linestyle="",
                label=title,
            )
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks(x, [f"{value:g}" for value in x])
        noise = "standard deviation of the label noise"
        axes.set(xlabel="inputs n" if by == "n" else noise, ylabel="samples N")
        axes.set_title(f"{'label noise' if by == 'n' else 'n'} = {common:g}", fontsize=10)
        grid(axes)
    axes.legend(frameon=False, fontsize=8)
    figure.suptitle(
        "How many samples does label noise ask for?\n"
        f"{shared_settings(results)}; dots measured, 95 % intervals; lines predicted",
        fontsize=11,
    )
    return figure
