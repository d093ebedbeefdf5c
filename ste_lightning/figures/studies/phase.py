"""Recovery over n and N, and how N50 grows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure

from ste_lightning.figures.colours import palette
from ste_lightning.figures.studies.style import (
    LAST,
    bounds,
    clean,
    grid,
    intervals,
    legend,
    shared_settings,
)
from ste_lightning.theory.estimates import Estimate
from ste_lightning.theory.studies import tables

if TYPE_CHECKING:
    from ste_lightning.theory.studies.runner import Result

__all__ = ["phase_figure"]


def phase_figure(results: Sequence[Result], smallest: int = 64) -> Figure:
    """Draw recovery over (n, N) with both N50 curves, and N50 against the bounds n^2 and n^4.

    Top: a panel per group of settings, three a row; colour is the last iterate's recovery,
    circles and diamonds N50 of the last and the averaged iterate. Bottom: N50 with 95 %
    intervals, the fitted exponents in the legend; a triangle is a bound: N50 lies above it.

    Args:
        results: cells over n and samples, and perhaps rules, m or v.
        smallest: the smallest n of the fits.
    """
    found = tables.thresholds(results)
    groups: dict[str, list[tables.Threshold]] = {}
    for t in found:
        groups.setdefault(_name(t.group), []).append(t)
    columns = min(3, max(2, len(groups)))
    rows = -(-len(groups) // columns)
    figure = Figure(figsize=(4.0 * columns, 3.6 * rows + 4.4), layout="constrained")
    ratios = (3.6 * rows, 4.4)
    upper, lower = figure.subfigures(2, 1, squeeze=False, height_ratios=ratios)[:, 0]
    heat = upper.subplots(rows, columns, squeeze=False)
    for panel in heat.flat[len(groups) :]:
        panel.set_axis_off()
    for panel, (name, members) in zip(heat.flat, groups.items(), strict=False):
        mesh = _heat(panel, members, name)
    upper.colorbar(mesh, ax=heat, label="recovery of the last iterate (grey: not run)", shrink=0.8)
    axes, gap = lower.subplots(1, 2, width_ratios=(1.6, 1))
    fits = {(_name(group), which): fit for group, which, fit in tables.exponents(found, smallest)}
    for (name, members), color in zip(groups.items(), palette(), strict=False):
        for which in ("last", "ergodic"):
            _curve(axes, members, which, color, name, fits.get((name, which)))
        known = [(t.n, t.ratio) for t in members if t.ratio is not None]
        if known:
            places, quotients = [n for n, _ in known], [ratio for _, ratio in known]
            style: dict[str, Any] = {"color": color, "marker": "o", "markersize": 4}
            intervals(gap, places, quotients, label=name or "ratio", **style)
    sizes = np.array(sorted({t.n for t in found}), dtype=float)
    values = [e.value for t in found for e in (t.n50_last, t.n50_ergodic)]
    start = min((value for value in values if not math.isnan(value)), default=1.0)
    bounds(axes, sizes, start, 4 * max(v for t in found for v in t.samples), (1, 2, 4))
    title = "measured: last (solid), averaged (dashed)"
    title += f"; exponents for n >= {smallest}" if any(fits.values()) else ""
    axes.set_title(title, fontsize=10)
    for panel, what in (
        (axes, "N50: samples for half of the trials"),
        (gap, "N50 last / averaged"),
    ):
        panel.set_xscale("log", base=2)
        panel.set_xticks(sizes, [f"{n:.0f}" for n in sizes])
        panel.set(xlabel="inputs n", ylabel=what)
        grid(panel)
    gap.set_title("the price of the last iterate", fontsize=10)
    low, high = gap.get_ylim()
    gap.set_ylim(min(low, 0.8), max(high, 1.2))
    legend(axes, loc="upper left", bbox_to_anchor=(1.0, 1.0), handlelength=3.5)
    title = "How many samples does it take to recover the teacher?"
    figure.suptitle(f"{title}\n{shared_settings(results)}; bars: 95 % intervals", fontsize=11)
    legend(gap)
    return figure


def _name(group: Mapping[str, str]) -> str:
    """Return a group's label: rules speak for themselves, other settings say what they are."""
    return ", ".join(value if key == "rule" else f"{key} = {value}" for key, value in group.items())


def _heat(axes: Axes, members: Sequence[tables.Threshold], title: str) -> QuadMesh:
    mesh: QuadMesh
    for t in members:
        edges = np.sqrt(np.array(t.samples[:-1], float) * np.array(t.samples[1:], float))
        ratio = t.samples[1] / t.samples[0] if len(t.samples) > 1 else 2.0
        edges = np.concatenate([[t.samples[0] / ratio**0.5], edges, [t.samples[-1] * ratio**0.5]])
        x = np.array([t.n / 2**0.5, t.n * 2**0.5])
        rates = np.array(t.last)[:, None]
        mesh = axes.pcolormesh(x, edges, rates, cmap="Blues", vmin=0, vmax=1, rasterized=True)
    # Thick below thin: where both iterates agree, both are seen.
    for which, marker, color, size in (
        ("n50_last", "o", LAST, 8),
        ("n50_ergodic", "D", "#222222", 4),
    ):
        points = [(t.n, getattr(t, which).value) for t in members]
        axes.plot(
            *zip(*points, strict=True),
            color=color,
            marker=marker,
            markersize=size,
            linewidth=size / 3,
            label="N50 last" if which == "n50_last" else "N50 averaged",
        )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.set_xticks([t.n for t in members], [str(t.n) for t in members])
    axes.set(xlabel="inputs n", ylabel="samples N")
    axes.set_title(title or "recovery", fontsize=10)
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    axes.set_facecolor("#dddddd")  # white is a recovery of 0
    clean(axes)
    return mesh


def _curve(
    axes: Axes,
    members: Sequence[tables.Threshold],
    which: str,
    color: str,
    name: str,
    fit: Estimate | None,
) -> None:
    estimates = [(t.n, t.n50_last if which == "last" else t.n50_ergodic) for t in members]
    above = [(n, e.low) for n, e in estimates if math.isnan(e.value) and math.isinf(e.high)]
    if above:
        axes.plot(*zip(*above, strict=True), "^", color=color, fillstyle="none")
    known = [(n, e) for n, e in estimates if not math.isnan(e.value)]
    if not known:
        return
    label = f"{name} {'last' if which == 'last' else 'averaged'}"
    if fit is not None:
        ends = f"[{fit.low:.2f}, {fit.high:.2f}]"
        ends = ends.replace("[-inf", "(-∞").replace("inf]", "∞)")
        label += f": $n^{{{fit.value:.2f}}}$ {ends}"
    intervals(
        axes,
        [n for n, _ in known],
        [e for _, e in known],
        color=color,
        marker="o" if which == "last" else "D",
        linestyle="-" if which == "last" else "--",
        markersize=4,
        label=label.strip(),
    )
