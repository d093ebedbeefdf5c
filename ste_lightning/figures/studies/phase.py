"""Recovery over n and N, and how N50 grows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ste_lightning.figures.studies.style import COLORS, GREY, LAST, clean
from ste_lightning.theory.studies import tables

if TYPE_CHECKING:
    from ste_lightning.theory.studies.runner import Result

__all__ = ["phase_figure"]


def phase_figure(results: Sequence[Result], smallest: int = 64) -> Figure:
    """Draw recovery over (n, N) with both N50 curves, and N50 against the bounds n^2 and n^4.

    Top: a panel per group of settings; colour is the last iterate's recovery, circles and
    diamonds N50 of the last and the averaged iterate. Bottom: N50 with 95 % intervals and the
    fitted exponents.

    Args:
        results: cells over n and samples, and perhaps rules, m or v.
        smallest: the smallest n of the fits.
    """
    found = tables.thresholds(results)
    names = list(dict.fromkeys(", ".join(t.group.values()) for t in found))
    columns = max(2, len(names))
    figure = Figure(figsize=(4.0 * columns, 8.0), layout="constrained")
    grid = figure.add_gridspec(2, columns, height_ratios=(1, 1.1))
    for place, name in enumerate(names):
        members = [t for t in found if ", ".join(t.group.values()) == name]
        _heat(figure.add_subplot(grid[0, place]), members, name or "recovery")
    axes = figure.add_subplot(grid[1, : columns - columns // 2])
    gap = figure.add_subplot(grid[1, columns - columns // 2 :])
    for name, color in zip(names, COLORS, strict=False):
        members = [t for t in found if ", ".join(t.group.values()) == name]
        _curve(axes, members, "last", color, f"{name} last")
        _curve(axes, members, "ergodic", color, f"{name} averaged")
        known = [
            (t.n, t.n50_last.value / t.n50_ergodic.value)
            for t in members
            if not math.isnan(t.n50_last.value) and not math.isnan(t.n50_ergodic.value)
        ]
        if known:
            gap.plot(*zip(*known, strict=True), color=color, marker="o", label=name or "ratio")
    sizes = np.array(sorted({t.n for t in found}), dtype=float)
    start = min((t.n50_last.value for t in found if not math.isnan(t.n50_last.value)), default=1.0)
    for power, style in ((1, ":"), (2, "--"), (4, "-.")):
        axes.plot(sizes, start * (sizes / sizes[0]) ** power, style, color=GREY, linewidth=1)
        axes.annotate(
            f"n^{power}", (sizes[-1], start * (sizes[-1] / sizes[0]) ** power), fontsize=8
        )
    top = max((v for t in found for v in t.samples), default=1)
    axes.set_ylim(start / 2, top * 4)
    fits = [
        f"{', '.join(group.values())} {'last' if it == 'last' else 'averaged'}: n^{fit}"
        for group, it, fit in tables.exponents(found, smallest)
    ]
    axes.set_title(f"exponents for n >= {smallest}\n" + "\n".join(fits), fontsize=8, loc="left")
    for panel, what in ((axes, "N50"), (gap, "N50 last / N50 averaged")):
        panel.set_xscale("log", base=2)
        panel.set_xticks(sizes, [f"{n:.0f}" for n in sizes])
        panel.set(xlabel="n", ylabel=what)
        panel.grid(color="#e8e8e8", linewidth=0.8)
        panel.set_axisbelow(True)
        clean(panel)
    axes.set_yscale("log")
    axes.legend(frameon=False, fontsize=8)
    gap.set_title("the price of the last iterate", fontsize=10)
    gap.legend(frameon=False, fontsize=8)
    return figure


def _heat(axes: Axes, members: Sequence[tables.Threshold], title: str) -> None:
    for t in members:
        edges = np.sqrt(np.array(t.samples[:-1], float) * np.array(t.samples[1:], float))
        ratio = t.samples[1] / t.samples[0] if len(t.samples) > 1 else 2.0
        edges = np.concatenate([[t.samples[0] / ratio**0.5], edges, [t.samples[-1] * ratio**0.5]])
        x = np.array([t.n / 2**0.5, t.n * 2**0.5])
        rates = np.array(t.last)[:, None]
        axes.pcolormesh(x, edges, rates, cmap="Blues", vmin=0, vmax=1, rasterized=True)
    for which, marker, color in (("n50_last", "o", LAST), ("n50_ergodic", "D", "#222222")):
        points = [(t.n, getattr(t, which).value) for t in members]
        axes.plot(
            *zip(*points, strict=True),
            color=color,
            marker=marker,
            markersize=5,
            linewidth=1.4,
            label="N50 last" if which == "n50_last" else "N50 averaged",
        )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.set_xticks([t.n for t in members], [str(t.n) for t in members])
    axes.set(xlabel="n", ylabel="samples N")
    axes.set_title(title, fontsize=10)
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    clean(axes)


def _curve(
    axes: Axes, members: Sequence[tables.Threshold], iterate: str, color: str, name: str
) -> None:
    estimates = [(t.n, t.n50_last if iterate == "last" else t.n50_ergodic) for t in members]
    known = [(n, e) for n, e in estimates if not math.isnan(e.value)]
    if not known:
        return
    n = [size for size, _ in known]
    value = np.array([e.value for _, e in known])
    spread = [value - [e.low for _, e in known], [e.high for _, e in known] - value]
    axes.errorbar(
        n,
        value,
        np.maximum(spread, 0),
        color=color,
        marker="o" if iterate == "last" else "D",
        linestyle="-" if iterate == "last" else "--",
        markersize=4,
        capsize=2,
        label=name.strip(),
    )
