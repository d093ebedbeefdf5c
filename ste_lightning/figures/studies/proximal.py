"""Proximal and hard straight-through descent: the maps, and how many samples they need."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator

from ste_lightning.figures.colours import GREY
from ste_lightning.figures.studies.style import (
    AVERAGED,
    LAST,
    grid,
    intervals,
    legend,
    shared_settings,
)
from ste_lightning.functional import soft_sign
from ste_lightning.theory.estimates import power_law
from ste_lightning.theory.proximal import RAMPS
from ste_lightning.theory.studies import tables

if TYPE_CHECKING:
    from ste_lightning.theory.studies.runner import Result

__all__ = ["proximal_figure"]

_CURVES = (
    ("hard", "n50_last", "straight-through, last", LAST, "-"),
    ("hard", "n50_ergodic", "straight-through, averaged", LAST, ":"),
    ("parq", "n50_last", "PARQ, last", AVERAGED, "-"),
    ("parq", "n50_ergodic", "PARQ, averaged", AVERAGED, ":"),
    ("clip", "n50_last", "clipped throughout, rounded at the end", GREY, "-"),
)


def proximal_figure(results: Sequence[Result]) -> Figure:
    """Draw PARQ's map as training goes on, and N50 / n of each method's iterates against n.

    Exponents in the legend are those from n = 64 on, or between the two largest n.

    Args:
        results: cells over ``ramp``, n and samples.
    """
    found = tables.thresholds(results)
    figure = Figure(figsize=(11.0, 4.4), layout="constrained")
    maps, axes = figure.subplots(1, 2, width_ratios=(1, 2.2))
    _maps(maps)
    sizes = sorted({t.n for t in found})
    for ramp, which, name, color, line in _CURVES:
        known = [(t.n, getattr(t, which)) for t in found if t.group.get("ramp", ramp) == ramp]
        known = sorted((p for p in known if not math.isnan(p[1].value)), key=lambda p: p[0])
        if not known:
            continue
        last = [p for p in known if p[0] >= 64] or known[-2:]
        if len(last) > 1:
            p = power_law([n for n, _ in last], [e for _, e in last])
            name += f": $n^{{{p.value:.2f}}}$ [{p.low:.2f}, {p.high:.2f}]".replace("inf", "∞")
        for n, e in known:  # per input, so that n^1 is flat
            intervals(axes, [n], [e], per=n, color=color, marker="o", markersize=4)
        values = [e.value / n for n, e in known]
        axes.plot([n for n, _ in known], values, line, color=color, label=name)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(sizes, [str(n) for n in sizes])
    ticks = [1, 2, 3, 4, 6, 8, 10]
    low, high = axes.get_ylim()
    axes.set_yticks(ticks, [str(t) for t in ticks])
    axes.set_ylim(low, 1.8 * high)  # room for the legend
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set(xlabel="inputs n", ylabel="samples per input, N50 / n")
    axes.set_title(
        "samples for half of the trials (lower is better); exponents: n >= 64", fontsize=10
    )
    legend(axes, loc="upper left")
    grid(axes)
    title = "Does a map that hardens into the sign help the last iterate?"
    figure.suptitle(f"{title}\n{shared_settings(results)}; bars: 95 % intervals", fontsize=11)
    return figure


def _maps(axes: Axes) -> None:
    x = torch.linspace(-1.6, 1.6, 400)
    for progress, shade in ((0.0, 0.25), (0.5, 0.5), (0.7, 0.75), (1.0, 1.0)):
        rho = RAMPS["parq"](progress)
        axes.plot(
            x,
            soft_sign(x, rho),
            color=AVERAGED,
            alpha=shade,
            linewidth=1.8,
            label=f"after {100 * progress:.0f} % of the steps",
        )
    axes.set_xticks([-1, 0, 1], ["$-1/\\sqrt{n}$", "0", "$1/\\sqrt{n}$"])
    axes.set_yticks([-1, 0, 1], ["$-1/\\sqrt{n}$", "0", "$1/\\sqrt{n}$"])
    axes.set(xlabel="latent weight x", ylabel="weight w")
    axes.set_title("PARQ's map hardens into the sign", fontsize=10)
    axes.set_ylim(-1.15, 1.75)
    legend(axes, loc="upper left")
    grid(axes)
