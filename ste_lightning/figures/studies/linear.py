"""The quantized linear model: curves, the plateau's length, and densities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ste_lightning.figures.colours import BLUE, GREY, palette
from ste_lightning.figures.studies.style import clean, grid, intervals, legend
from ste_lightning.theory.linear_limit import Levels, input_moments, plateau
from ste_lightning.theory.studies.linear import Agreement, agreements

if TYPE_CHECKING:
    from ste_lightning.theory.studies.runner import Result

__all__ = ["linear_figure"]


def linear_figure(results: Sequence[Result]) -> Figure:
    """Draw errors of two bits over time, the end of the plateau, and densities of the last cell.

    Lines are the equations, points the simulation.

    Args:
        results: cells over ranges and bits.
    """
    largest = max(r.settings["n"] for r in results)
    kept = [r for r in results if r.settings["n"] == largest]
    found = agreements(kept)
    falling = [a for a in found if a.drop is not None and a.bits == 2]
    figure = Figure(figsize=(13.5, 4.6), layout="constrained")
    outer = figure.add_gridspec(1, 3, width_ratios=[1.35, 1.0, 1.25])
    _curves(figure.add_subplot(outer[0]), falling)
    _lengths(figure.add_subplot(outer[1]), falling)
    shots = len(kept[-1].columns["snapshots"][0])
    inner = outer[2].subgridspec(shots, 1, hspace=0.08)
    _densities([figure.add_subplot(inner[k]) for k in range(shots)], kept[-1])
    trials = len(kept[-1].columns["trial"])
    figure.suptitle(
        f"Quantized linear model, straight-through descent, {largest} weights: "
        f"lines are the equations, points {trials} simulated students",
        fontsize=12,
    )
    return figure


def _curves(axes: Axes, found: Sequence[Agreement]) -> None:
    for a, color in zip(found, palette(), strict=False):
        mean = a.error.mean(0)
        axes.plot(a.time, a.predicted, color=color, lw=1.3)
        axes.plot(a.time[::6], mean[::6], "o", color=color, ms=3.2, label=f"range {a.range:g}")
        height = float(np.interp(a.plateau, a.time, a.predicted))
        axes.plot([a.plateau] * 2, [height - 0.04, height + 0.04], color=color, lw=2.5)
    axes.set(xlabel="time: step size x steps / n", ylabel="expected squared error")
    axes.set_ylim(0, None)
    axes.set_title("2 bits: a plateau, then the drop\n(bar: end of the plateau, closed form)")
    legend(axes)
    grid(axes)


def _lengths(axes: Axes, found: Sequence[Agreement]) -> None:
    ranges = [a.range for a in found]
    if ranges:
        fine = np.linspace(0.5 * min(ranges), 1.1 * max(ranges), 60)
        inputs = input_moments(Levels(2, 2.0))
        line = [plateau(Levels(2, float(width)), inputs) for width in fine]
        axes.plot(fine, line, "--", color=GREY, label="closed form $2a / (ρ_1 - ρ_2 a)$")
        axes.plot(ranges, [a.drop_predicted for a in found], "_", ms=16, color="black",
                  label="equations")  # fmt: skip
        seen = [a.drop for a in found if a.drop is not None]
        intervals(axes, ranges, seen, color=BLUE, fmt="o", ms=4, label="simulated")
    axes.set(xlabel="range of the weights' quantizer", ylabel="time of the drop")
    axes.set_ylim(0, None)
    axes.set_title("the plateau's length\nagainst the range")
    legend(axes, loc="upper left")
    grid(axes)


def _densities(panels: Sequence[Axes], result: Result) -> None:
    edges = np.array(result.columns["edges"][0])
    middle, width = (edges[1:] + edges[:-1]) / 2, edges[1] - edges[0]
    s = result.settings
    levels = Levels(int(s["bits"]), float(s["range"]))
    first = -levels.range + levels.spacing / 2
    shots = result.columns["snapshots"][0]
    expected = result.columns["density_predicted"][0]
    visible = np.concatenate(expected) > 1e-4
    shown = np.tile(middle, len(expected))[visible]
    for k, axes in enumerate(panels):
        seen = np.array(result.columns["density"][0][k]) / width
        axes.bar(middle, seen, width=width, color="#b9cfe8")
        axes.plot(middle, np.array(expected[k]) / width, color=BLUE, lw=1.3)
        for j in range(levels.top):
            axes.axvline(first + j * levels.spacing, color=GREY, lw=0.6, ls=":")
        axes.set_xlim(shown.min(), shown.max())
        axes.set_yticks([])
        axes.text(
            0.98, 0.75, f"time {shots[k]:g}", transform=axes.transAxes, ha="right", fontsize=9
        )
        clean(axes)
        if axes is not panels[-1]:
            axes.set_xticklabels([])
    start = float(s.get("init_scale", 0.05))
    panels[0].set_title(
        f"density of latent weights (dotted: thresholds)\n"
        f"{s['bits']} bits, range {s['range']:g}, start N(0, {start:g}²)"
    )
    panels[-1].set_xlabel("latent weight (teacher: 1)")
