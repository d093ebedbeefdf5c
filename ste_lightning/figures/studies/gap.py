"""The gap between the last and the averaged iterate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator, PercentFormatter

from ste_lightning.figures.colours import GREY
from ste_lightning.figures.studies.style import (
    AVERAGED,
    LAST,
    bounds,
    grid,
    intervals,
    legend,
    shared_settings,
)
from ste_lightning.theory.estimates import power_law
from ste_lightning.theory.statistics import wilson
from ste_lightning.theory.studies import tables

if TYPE_CHECKING:
    from ste_lightning.theory.studies.runner import Result

__all__ = ["gap_figure"]

_ITERATES = (("ergodic", "averaged iterate", AVERAGED, "D"), ("last", "last iterate", LAST, "o"))


def gap_figure(results: Sequence[Result]) -> Figure:
    """Draw recovery against N for the three largest n, and N50 of both iterates against n.

    Bands are Wilson's 95 % intervals, bars the bootstrap's. The shaded part of a panel lies
    between the two N50: there averaging succeeds and the last iterate fails.

    Args:
        results: cells over n and samples, one rule and m.
    """
    found = sorted(tables.thresholds(results), key=lambda t: t.n)
    trials = {r.settings["n"]: len(r.columns["last"]) for r in results}
    shown = found[-3:]
    figure = Figure(figsize=(5.0 + 3.0 * len(shown), 4.2), layout="constrained")
    axes = figure.subplots(1, len(shown) + 1, width_ratios=[1.0] * len(shown) + [1.5])
    for panel, t in zip(axes, shown, strict=False):
        _recovery(panel, t, trials[t.n])
    axes[0].set_ylabel("trials that recover w*")
    _growth(axes[-1], found)
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    shared = shared_settings(results)
    if results[0].settings.get("experiment") == "large":
        shared = f"m = 1, identity, {shared}"
    title = f"The price of the last iterate ({shared}, no label noise; 95 % intervals)"
    figure.suptitle(title if len(shown) > 1 else title.replace(" (", "\n("), fontsize=12)
    return figure


def _recovery(axes: Axes, t: tables.Threshold, trials: int) -> None:
    for which, name, color, marker in _ITERATES:
        rates = t.ergodic if which == "ergodic" else t.last
        counts = (torch.tensor(rates) * trials).round()
        low, high = wilson(counts, trials)
        axes.fill_between(t.samples, low, high, color=color, alpha=0.15, linewidth=0)
        axes.plot(t.samples, rates, color=color, marker=marker, markersize=5, label=name)
    if not math.isnan(t.n50_last.value) and not math.isnan(t.n50_ergodic.value):
        between = sorted((t.n50_ergodic.value, t.n50_last.value))
        axes.axvspan(*between, color="#f6e7d8", zorder=0)
        times = t.n50_last.value / t.n50_ergodic.value
        axes.annotate(
            f"last: {times:.2f}x as many",
            (math.sqrt(between[0] * between[1]), 1.03),
            ha="center",
            fontsize=9,
            color="#8a4b10",
        )
    axes.axhline(0.5, color=GREY, linewidth=0.7, linestyle=":")
    axes.set_xscale("log")
    ticks = t.samples[:1]
    for N in t.samples[1:]:  # far enough from each other to be read
        if N / ticks[-1] >= (t.samples[-1] / t.samples[0]) ** 0.2:
            ticks.append(N)
    axes.set_xticks(ticks, [str(N) for N in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(-0.04, 1.12)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlabel("samples N")
    axes.set_title(f"n = {t.n}", fontsize=11)
    grid(axes)


def _growth(axes: Axes, found: Sequence[tables.Threshold]) -> None:
    for which, _, color, marker in _ITERATES:
        known = [(t.n, getattr(t, f"n50_{which}")) for t in found]
        known = [(n, e) for n, e in known if not math.isnan(e.value)]
        if not known:
            continue
        n = [size for size, _ in known]
        value = np.array([e.value for _, e in known])
        intervals(axes, n, [e for _, e in known], color=color, marker=marker)
        slope = ""
        if len(known) > 1:  # between the two largest n
            p = power_law(n[-2:], [e for _, e in known[-2:]])
            slope = f"\n$n^{{{p.value:.2f}}}$ [{p.low:.2f}, {p.high:.2f}]".replace("inf", "∞")
        axes.annotate(
            f"{value[-1]:.0f}{slope}",
            (n[-1], value[-1]),
            xytext=(7, 2 if which == "last" else -22),
            textcoords="offset points",
            color=color,
            fontsize=9,
        )
    sizes = np.array([t.n for t in found], dtype=float)
    # The bounds' slopes start at the first N50; where none is known, at the first N.
    start = next(
        (t.n50_ergodic.value for t in found if not math.isnan(t.n50_ergodic.value)),
        float(found[0].samples[0]),
    )
    bounds(axes, sizes, start, 2.0 * max(max(t.samples) for t in found))
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [f"{n:.0f}" for n in sizes])
    axes.set_xlim(sizes[0] / 1.2, sizes[-1] * max(2.5, (sizes[-1] / sizes[0]) ** 0.65))
    axes.set(xlabel="inputs n", ylabel="N50: samples for half of the trials")
    axes.set_title("proved: slopes only; exponents: last two n", fontsize=11)
    legend(axes, loc="lower right")
    grid(axes)
