"""Figures of training on real data: learning curves, and accuracy by setting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ste_lightning.errors import require
from ste_lightning.figures.colours import BLUE, GREY
from ste_lightning.figures.finished import Finished

__all__ = ["comparison", "learning_curves"]

TRAIN, VALIDATION = GREY, BLUE


def learning_curves(run: Finished) -> Figure:
    """Draw loss and accuracy by epoch, of training and validation.

    Args:
        run: a finished run of a classifier; its history has the columns ``epoch``,
            ``train/loss``, ``val/loss``, ``train/accuracy`` and ``val/accuracy``.
    """
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    for axes, quantity in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        _curve(axes, run.history, f"train/{quantity}", "training", TRAIN)
        _curve(axes, run.history, f"val/{quantity}", "validation", VALIDATION)
        axes.set(xlabel="epoch", ylabel=quantity)
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
        axes.spines[["top", "right"]].set_visible(False)
    if "test/accuracy" in run.metrics:
        axes.set_title(f"test accuracy {run.metrics['test/accuracy']:.2%}", fontsize=10)
    if axes.lines:
        axes.legend(frameon=False, loc="lower right")
    return figure


def _curve(
    axes: Axes, history: Sequence[Mapping[str, float]], column: str, label: str, color: str
) -> None:
    points = [(row["epoch"] + 1, row[column]) for row in history if column in row]
    if points:
        epochs, values = zip(*points, strict=True)
        axes.plot(epochs, values, color=color, label=label, linewidth=1.6)


def comparison(
    rows: Sequence[Mapping[str, Any]],
    by: str | Sequence[str] = "setting",
    metric: str = "test/accuracy",
    title: str = "",
) -> Figure:
    """Draw a metric's mean over runs for every setting, highest on top, and every run as a dot.

    Args:
        rows: one mapping per run with its settings and metrics, as in a sweep's table.
        by: the setting, or settings, to compare; default all that were swept.
        metric: what to show.
        title: heading of the figure.

    Raises:
        ConfigurationError: if no row has the metric, and for anything but the rows of a table.
    """
    table = isinstance(rows, Sequence)
    require(table, "rows", type(rows).__name__, "comparison draws sweeps: use sweep.figures")
    keys = [by] if isinstance(by, str) else list(by)
    groups: dict[str, list[float]] = {}
    for row in rows:
        if metric in row:
            label = ", ".join(str(row[key]) for key in keys if key in row)
            groups.setdefault(label, []).append(float(row[metric]))
    require(bool(groups), "metric", metric, "name a metric that the runs report")
    ordered = sorted(groups.items(), key=lambda item: float(np.mean(item[1])))
    shares = not metric.endswith("loss") and max(map(max, groups.values())) <= 1
    figure = Figure(figsize=(7, 1.0 + 0.34 * len(ordered)), layout="constrained")
    axes = figure.subplots()
    for place, (_, values) in enumerate(ordered):
        mean = float(np.mean(values))
        axes.plot(values, [place] * len(values), "o", color=TRAIN, markersize=5, alpha=0.7)
        axes.plot([mean], [place], "D", color=VALIDATION, markersize=7)
        axes.annotate(
            f"{mean:.2%}" if shares else f"{mean:.4g}",
            (1.01, place),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=9,
            color=VALIDATION,
        )
    axes.set_yticks(range(len(ordered)), [label for label, _ in ordered])
    axes.set_ylim(-0.6, len(ordered) - 0.4)
    axes.grid(axis="x", color="#e4e4e4", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel(f"{metric}: mean (diamond) and single runs (dots)")
    figure.suptitle(title, fontsize=11, x=0.01, ha="left", wrap=True)  # wider than the axes
    return figure
