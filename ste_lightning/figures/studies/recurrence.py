"""Label noise: traces, time at the teacher, return times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ste_lightning.figures.studies.style import AVERAGED, COLORS, clean

if TYPE_CHECKING:
    from ste_lightning.theory.studies.runner import Result

__all__ = ["recurrence_study_figure"]


def recurrence_study_figure(results: Sequence[Result]) -> Figure:
    """Draw traces, time at w* against noise and prediction, and return times.

    Args:
        results: cells over noise and samples, and for some of them over step sizes: those
            appear as an inset.
    """
    usual = results[0].settings.get("lr", 1.0)
    everything = results
    results = [r for r in everything if r.settings.get("lr", 1.0) == usual]
    figure = Figure(figsize=(13, 4.2), layout="constrained")
    grid = figure.add_gridspec(3, 3)
    by_noise = sorted(results, key=lambda r: (-r.settings["samples"], r.settings["noise"]))
    most = [r for r in by_noise if r.settings["samples"] == by_noise[0].settings["samples"]]
    chosen = [most[0], most[len(most) // 2], most[-1]]
    for place, r in enumerate(chosen):
        axes = figure.add_subplot(grid[place, 0])
        trace = np.array(r.columns["hamming"][0])
        axes.step(range(len(trace)), trace, color=AVERAGED, linewidth=0.9)
        axes.fill_between(
            range(len(trace)),
            -0.3,
            trace.max() + 0.3,
            where=trace == 0,
            color="#cfe8d5",
            linewidth=0,
            step="pre",
        )
        title = f"noise {r.settings['noise']:g}, N = {r.settings['samples']}, the last steps"
        axes.set_title(title, fontsize=9, loc="left", pad=2)
        axes.set_ylabel("wrong signs", fontsize=8)
        clean(axes)
    middle, right = figure.add_subplot(grid[:, 1]), figure.add_subplot(grid[:, 2])
    sizes = sorted({r.settings["samples"] for r in results})
    for size, color in zip(sizes, COLORS, strict=False):
        members = sorted(
            (r for r in results if r.settings["samples"] == size), key=lambda r: r.settings["noise"]
        )
        noise = [r.settings["noise"] for r in members]
        seen = np.array([np.mean(r.columns["fraction"]) for r in members])
        error = [
            1.96 * np.std(r.columns["fraction"]) / len(r.columns["trial"]) ** 0.5 for r in members
        ]
        middle.errorbar(
            noise,
            seen,
            error,
            color=color,
            marker="o",
            linestyle="",
            capsize=2,
            label=f"N = {size}",
        )
        expected = [np.mean(r.columns["predicted_fraction"]) for r in members]
        middle.plot(noise, expected, color=color, linewidth=1.2)
    middle.set_xscale("log")
    middle.set(
        xlabel="label noise", ylabel="share of steps at w*", title="dots seen, lines predicted"
    )
    middle.legend(frameon=False, fontsize=8)
    _step_sizes(right, everything, usual)
    for r, color in zip(chosen, COLORS, strict=False):
        counts = np.sum(r.columns["return_histogram"], axis=0)
        if counts.sum():
            left = 1 - np.concatenate([[0], np.cumsum(counts)]) / counts.sum()
            right.plot(
                np.where(left > 1e-9, left, np.nan),
                color=color,
                marker=".",
                label=f"noise {r.settings['noise']:g}",
            )
    right.set(xscale="symlog", yscale="log", xlabel="k steps", ylabel="P(return time > k)")
    right.set_title(f"return times, N = {chosen[0].settings['samples']}", fontsize=10)
    right.legend(frameon=False, fontsize=8)
    for axes in (middle, right):
        clean(axes)
    return figure


def _step_sizes(axes: Axes, results: Sequence[Result], usual: float) -> None:
    """Draw the time at w* by step size, where one of the cells was run with several."""
    other = next((r for r in results if r.settings.get("lr", 1.0) != usual), None)
    if other is None:
        return
    place = (other.settings["noise"], other.settings["samples"])
    same = sorted(
        (r for r in results if (r.settings["noise"], r.settings["samples"]) == place),
        key=lambda r: float(r.settings.get("lr", 1.0)),
    )
    inset = axes.inset_axes((0.09, 0.1, 0.3, 0.25))
    share = [np.mean(r.columns["fraction"]) for r in same]
    inset.plot(
        [r.settings.get("lr", 1.0) for r in same], share, "o-", color="#222222", markersize=3
    )
    inset.set_xscale("log")
    inset.set_ylim(0, 1)
    inset.set_title(f"time at w* by step size,\nnoise {place[0]:g}", fontsize=7)
    clean(inset)
    inset.tick_params(labelsize=7)
