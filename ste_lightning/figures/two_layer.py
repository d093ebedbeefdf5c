"""Figures of the two-layer network: recurrence under label noise, recovery against N."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter, NullLocator, PercentFormatter
from numpy.typing import NDArray
from torch import Tensor

from ste_lightning.errors import require
from ste_lightning.figures.colours import BLUE, GREY, ORANGE, PALE_GREEN
from ste_lightning.theory.statistics import wilson

__all__ = ["recovery_figure", "recurrence_figure"]


def _clean(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9)


def recurrence_figure(
    result: Mapping[str, Tensor], predicted: Tensor, steps: int = 300, title: str = ""
) -> Figure:
    """Draw how trials leave and find again their teacher under label noise.

    Left: Hamming distance of three trials (least, median and most time at w*), shaded at w*.
    Middle: fraction of the steps at w*, predicted against observed, one dot per data set.
    Right: share of the return times longer than k steps.

    Args:
        result: what ``BinaryTwoLayer.result()`` returned; needs ``trace_steps`` >= 1.
        predicted: predicted fraction of the steps at w*, shape (trials,).
        steps: length of the traces drawn; default 300.
        title: heading of the figure.

    Raises:
        ConfigurationError: if the model kept no trace.
    """
    trace = result["hamming_trace"][:steps].cpu().numpy()
    require(len(trace) > 0, "trace_steps", len(trace), f"train with trace_steps={steps}")
    observed = np.atleast_1d(result["fraction_at_teacher"].cpu().double().numpy())
    figure = Figure(figsize=(12.5, 4.1), layout="constrained")
    grid = figure.add_gridspec(3, 3, width_ratios=(1.35, 1, 1))
    by_time = np.argsort(observed)
    chosen = [by_time[0], by_time[len(by_time) // 2], by_time[-1]]
    top = max(1, int(trace[:, chosen].max()))
    panels = [figure.add_subplot(grid[row, 0]) for row in range(3)]
    for axes, trial in zip(panels, chosen, strict=True):
        _trace(axes, trace[:, trial], top, f"trial {trial}: {observed[trial]:.0%} of steps at w*")
    panels[1].set_ylabel("wrong signs", fontsize=10)
    panels[-1].set_xlabel("step (shaded: at the teacher)", fontsize=10)
    for axes in panels[:-1]:
        axes.tick_params(labelbottom=False)
    expected = np.atleast_1d(predicted.cpu().double().numpy())
    _agreement(figure.add_subplot(grid[:, 1]), expected, observed)
    _survival(figure.add_subplot(grid[:, 2]), result["return_times"].cpu().numpy())
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


def _trace(axes: Axes, distance: np.ndarray, top: int, title: str) -> None:
    edges = np.arange(len(distance) + 1) + 0.5
    sides = np.stack([edges[:-1], edges[1:]], axis=1).ravel()
    here = np.repeat(distance == 0, 2)
    axes.fill_between(sides, -0.35, top + 0.4, where=here, color=PALE_GREEN, linewidth=0)
    axes.stairs(distance, edges, color=BLUE, linewidth=0.9, baseline=None)
    axes.set(xlim=(edges[0], edges[-1]), ylim=(-0.35, top + 0.4))
    axes.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    axes.set_title(title, fontsize=9, loc="left", pad=3)
    _clean(axes)


def _agreement(axes: Axes, predicted: np.ndarray, observed: np.ndarray) -> None:
    low = min(predicted.min(), observed.min()) - 0.03
    high = max(predicted.max(), observed.max()) + 0.03
    low, high = max(low, -0.02), min(high, 1.02)
    axes.plot([low, high], [low, high], color=GREY, linewidth=1, zorder=1)
    axes.scatter(predicted, observed, s=20, color=BLUE, alpha=0.65, linewidth=0, zorder=2)
    axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    axes.set_xlabel("predicted share, with coupling", fontsize=10)
    axes.set_ylabel("seen share of steps at w*", fontsize=10)
    title = "time at the teacher, one dot per data set"
    if len(observed) > 2 and predicted.std() > 0 and observed.std() > 0:
        title += f"\ncorrelation {np.corrcoef(predicted, observed)[0, 1]:.2f}"
    axes.set_title(title, fontsize=10)
    _clean(axes)


def _survival(axes: Axes, histogram: np.ndarray) -> None:
    """Draw P(return time > k), all trials pooled and, thin, each trial by itself."""
    pooled = histogram.sum(0)
    length = max(2, int(np.flatnonzero(pooled).max(initial=0)) + 1)
    k = np.arange(length + 1)

    def survival(counts: np.ndarray) -> np.ndarray:
        counts = counts[:length]
        left = 1 - np.concatenate([[0], np.cumsum(counts)]) / max(1, counts.sum())
        return np.where(left > 1e-12, left, np.nan)  # a logarithmic axis has no zero

    for counts in histogram:
        axes.plot(k, survival(counts), color=BLUE, alpha=0.13, linewidth=0.8)
    axes.plot(k, survival(pooled), color=ORANGE, linewidth=2, marker="o", markersize=3.5)
    axes.set_yscale("log")
    axes.set_xlim(0, length)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_xlabel("k (steps away)", fontsize=10)
    axes.set_ylabel("P(return time > k)", fontsize=10)
    mean = (pooled * np.arange(1, len(pooled) + 1)).sum() / max(1, pooled.sum())
    axes.set_title(
        f"return times: mean {mean:.2f} steps\n{pooled.sum():,} returns; thin: single trials",
        fontsize=10,
    )
    _clean(axes)


def recovery_figure(
    points: Sequence[tuple[int, int, int]],
    title: str = "",
    averaged: Sequence[tuple[int, int, int]] = (),
) -> Figure:
    """Draw the share of trials that recovered their teacher against the number of samples.

    Args:
        points: ``(N, recovered, trials)`` of each setting, by the last iterate, in any order.
        title: heading of the figure.
        averaged: the same by the averaged iterate.

    Returns:
        A figure with Wilson 95 % intervals.

    Raises:
        ConfigurationError: if there are no points.
    """
    require(len(points) > 0, "points", points, "pass at least one (N, recovered, trials)")
    points = sorted(points)
    figure = Figure(figsize=(6.2, 3.9), layout="constrained")
    axes = figure.subplots()
    if averaged:
        _shares(axes, sorted(averaged), BLUE, "D", "averaged: majority of all steps")
    share = _shares(axes, points, ORANGE, "o", "last iterate")
    for (x, successes, count), y in zip(points, share, strict=True):
        axes.annotate(
            f"{successes}/{count}",
            (x, y),
            xytext=(7, -11),
            textcoords="offset points",
            fontsize=8,
            color="#444444",
        )
    samples = [samples for samples, _, _ in points]
    axes.set_xscale("log", base=2)
    axes.set_xticks(samples, [str(n) for n in samples])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlim(samples[0] / 1.15, samples[-1] * 1.3)
    axes.set_ylim(-0.04, 1.06)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.grid(axis="y", color="#e4e4e4", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlabel("samples N per trial", fontsize=10)
    axes.set_ylabel("trials that recover w*", fontsize=10)
    axes.legend(loc="lower right", frameon=False, fontsize=9)
    axes.set_title(title, fontsize=11, loc="left")
    _clean(axes)
    return figure


def _shares(
    axes: Axes, points: Sequence[tuple[int, int, int]], color: str, marker: str, label: str
) -> NDArray[np.float64]:
    """Draw shares with their intervals, and return them."""
    samples, recovered, trials = np.array(points).T
    share: NDArray[np.float64] = recovered / trials
    low, high = (
        bound.numpy() for bound in wilson(torch.from_numpy(recovered), torch.from_numpy(trials))
    )
    axes.fill_between(samples, low, high, color=color, alpha=0.13, linewidth=0)
    spread = np.abs([low - share, high - share])
    axes.errorbar(
        samples, share, spread, color=color, marker=marker, capsize=2.5, linewidth=1.8, label=label
    )
    return share
