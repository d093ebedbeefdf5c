"""Label noise: traces, time at the teacher, return times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ste_lightning.figures.studies.style import AVERAGED, COLORS, GREY, clean

if TYPE_CHECKING:
    from ste_lightning.theory.studies.runner import Result

__all__ = ["recurrence_study_figure"]

_QUANTITIES = (
    ("fraction", "predicted_fraction", "share of steps at w*"),
    ("escapes", "predicted_escape_rate", "escapes per step"),
    ("return_time", "predicted_return_time", "mean return time, steps"),
)


def recurrence_study_figure(results: Sequence[Result]) -> Figure:
    """Draw traces, time at w* against noise, return times; below, each data set's prediction.

    Args:
        results: cells over noise and samples, and for some of them over step sizes.
    """
    usual = results[0].settings.get("lr", 1.0)
    everything = results
    results = [r for r in everything if r.settings.get("lr", 1.0) == usual]
    figure = Figure(figsize=(13, 8), layout="constrained")
    upper, lower = figure.subfigures(2, 1, squeeze=False)[:, 0]
    grid = upper.add_gridspec(3, 3)
    by_noise = sorted(results, key=lambda r: (-r.settings["samples"], r.settings["noise"]))
    most = [r for r in by_noise if r.settings["samples"] == by_noise[0].settings["samples"]]
    chosen = [most[0], most[len(most) // 2], most[-1]]
    for place, r in enumerate(chosen):
        axes = upper.add_subplot(grid[place, 0])
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
    axes.set_xlabel("step")
    middle, right = upper.add_subplot(grid[:, 1]), upper.add_subplot(grid[:, 2])
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
    middle.set(xlabel="standard deviation of the label noise", ylabel="share of steps at w*")
    middle.set_title("time at w*: dots seen, lines predicted", fontsize=10)
    middle.legend(frameon=False, fontsize=8)
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
    panels = lower.subplots(1, 4)
    for axes, quantity in zip(panels, _QUANTITIES, strict=False):
        _scatter(axes, most, quantity)
    panels[0].legend(frameon=False, fontsize=8, title="noise", title_fontsize=8)
    _step_sizes(panels[3], everything, usual)
    return figure


def _scatter(axes: Axes, results: Sequence[Result], quantity: tuple[str, str, str]) -> None:
    """Draw a quantity against its prediction, a dot per data set, a colour per noise."""
    seen, predicted, title = quantity
    logarithmic = seen == "return_time"
    pairs = []
    for r, color in zip(results, COLORS, strict=False):
        x = np.array(r.columns[predicted], dtype=float)
        y = np.array(r.columns[seen], dtype=float)
        if seen == "escapes":
            y = y / (r.settings.get("steps", 2000) - r.settings.get("burn_in", 0))
        known = np.isfinite(x) & np.isfinite(y)
        pairs.append(np.stack([x[known], y[known]]))
        name = f"{r.settings['noise']:g}"
        axes.plot(*pairs[-1], ".", color=color, markersize=4, alpha=0.7, label=name)
    both = np.concatenate(pairs, axis=1)
    if both.size == 0:
        axes.set_axis_off()
        return
    edges = np.array([both.min(), both.max()])
    axes.plot(edges, edges, color=GREY, linewidth=1)
    if logarithmic:
        axes.set(xscale="log", yscale="log")
        both = np.log(both)
    axes.set(xlabel="predicted", ylabel="seen")
    title += f", N = {results[0].settings['samples']}"
    if both.shape[1] > 2 and both.std(axis=1).min() > 0:
        scale = "of the logarithms " if logarithmic else ""
        title += f"\ncorrelation {scale}{np.corrcoef(both)[0, 1]:.2f}"
    axes.set_title(title, fontsize=10)
    clean(axes)


def _step_sizes(axes: Axes, results: Sequence[Result], usual: float) -> None:
    """Draw the time at w* by step size, where one of the cells was run with several."""
    other = next((r for r in results if r.settings.get("lr", 1.0) != usual), None)
    if other is None:
        axes.set_axis_off()
        return
    place = (other.settings["noise"], other.settings["samples"])
    same = sorted(
        (r for r in results if (r.settings["noise"], r.settings["samples"]) == place),
        key=lambda r: float(r.settings.get("lr", 1.0)),
    )
    share = [np.mean(r.columns["fraction"]) for r in same]
    error = [1.96 * np.std(r.columns["fraction"]) / len(r.columns["trial"]) ** 0.5 for r in same]
    steps = [r.settings.get("lr", 1.0) for r in same]
    axes.errorbar(steps, share, error, color="#222222", marker="o", capsize=2)
    axes.set(xscale="log", ylim=(0, 1), xlabel="step size", ylabel="share of steps at w*")
    axes.set_title(f"noise {place[0]:g}, N = {place[1]}", fontsize=10)
    clean(axes)
