"""Label noise: traces, time at the teacher, return times."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ste_lightning.figures.colours import GREY, PALE_GREEN, palette
from ste_lightning.figures.studies.style import AVERAGED, clean, shared_settings
from ste_lightning.theory.statistics import correlation
from ste_lightning.theory.studies.recurrence import quantities, same_data

if TYPE_CHECKING:
    from ste_lightning.theory.studies.runner import Result

__all__ = ["recurrence_study_figure"]

_SIZES = ("#b5b5b5", "#777777", "#222222")  # colours say how much noise
_QUANTITIES = ("share of steps at w*", "escapes per step", "mean return time, steps")


def recurrence_study_figure(results: Sequence[Result]) -> Figure:
    """Draw traces, time at w* against noise, return times; below, each data set's prediction.

    Args:
        results: cells over noise and samples, and for some of them over step sizes.
    """
    shared = shared_settings(results)
    runs = same_data(results)
    results = [first for first, *_ in runs]
    figure = Figure(figsize=(14, 8.7), layout="constrained")
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
            color=PALE_GREEN,
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
    for size, color in zip(sizes, itertools.cycle(_SIZES), strict=False):
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
    of_noise = {r.settings["noise"]: color for r, color in zip(most, palette(), strict=False)}
    for r in chosen:
        color = of_noise[r.settings["noise"]]
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
    figure.suptitle(
        "With noisy labels a run leaves the teacher and returns: how often, and is it predicted?\n"
        f"{shared} a cell, each with its own data set; bars: 95 % of the mean over data sets",
        fontsize=11,
    )
    panels = lower.subplots(1, 4)
    for which, axes in enumerate(panels[:3]):
        _scatter(axes, most, which)
    panels[0].legend(frameon=False, fontsize=8, title="noise", title_fontsize=8, markerscale=2)
    _step_sizes(panels[3], max(runs, key=len))
    return figure


def _scatter(axes: Axes, results: Sequence[Result], which: int) -> None:
    """Draw a quantity against its prediction, a dot per data set, a colour per noise.

    In grey, behind, the prediction that leaves out the coordinates' coupling.
    """
    coupled, correlations = [], []
    for r, color in zip(results, palette(), strict=False):
        seen, predicted, decoupled = (
            quantities(r, source)[which] for source in ("", "predicted", "decoupled")
        )
        found = correlation(predicted, seen)
        if not np.isnan(found.value):
            correlations.append(found.value)
        if which == 2:  # its logarithm, for the correlation
            seen, predicted, decoupled = seen.exp(), predicted.exp(), decoupled.exp()
        axes.plot(decoupled, seen, ".", color="#d5d5d5", markersize=3, zorder=1)
        name = f"{r.settings['noise']:g}"
        axes.plot(predicted, seen, ".", color=color, markersize=4, alpha=0.7, label=name)
        coupled.append(np.stack([predicted.numpy(), seen.numpy()]))
    both = np.concatenate(coupled, axis=1)
    both = both[:, np.isfinite(both).all(0)]
    if both.size == 0:
        axes.set_axis_off()
        return
    edges = np.array([both.min(), both.max()])
    axes.plot(edges, edges, color=GREY, linewidth=1)
    if which == 2:
        axes.set(xscale="log", yscale="log")
    margin = (0.8, 1.25) if which == 2 else (0.9, 1.05)
    limits = edges * margin
    axes.set(xlabel="predicted (grey: without coupling)", ylabel="seen", xlim=limits, ylim=limits)
    title = f"{_QUANTITIES[which]}, N = {results[0].settings['samples']}"
    if correlations:
        scale = "of logarithms " if which == 2 else ""
        low, high = min(correlations), max(correlations)
        title += f"\ncorrelation {scale}per noise {low:.3f} to {high:.3f}"
    axes.set_title(title, fontsize=10)
    clean(axes)


def _step_sizes(axes: Axes, runs: Sequence[Result]) -> None:
    """Draw the time at w* by step size, of runs on the same data."""
    if len(runs) < 2:
        axes.set_axis_off()
        return
    runs = sorted(runs, key=lambda r: float(r.settings.get("lr", 1.0)))
    share = [np.mean(r.columns["fraction"]) for r in runs]
    error = [1.96 * np.std(r.columns["fraction"]) / len(r.columns["trial"]) ** 0.5 for r in runs]
    steps = [r.settings.get("lr", 1.0) for r in runs]
    axes.errorbar(steps, share, error, color="#222222", marker="o", capsize=2)
    axes.set(xscale="log", ylim=(0, 1), xlabel="step size", ylabel="share of steps at w*")
    noise, samples = runs[0].settings["noise"], runs[0].settings["samples"]
    axes.set_title(f"the step size changes nothing\nnoise {noise:g}, N = {samples}", fontsize=10)
    clean(axes)
