"""Recurrence of a real layer's signs: how well each prediction meets the times, by what trains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from ste_lightning.figures.colours import PALETTE
from ste_lightning.figures.studies.style import grid, shared_settings
from ste_lightning.theory.statistics import average

if TYPE_CHECKING:
    from ste_lightning.theory.studies.runner import Result

__all__ = ["layer_recurrence_figure"]

_SHOWN = {"alone": "each weight alone", "coupled": "coupled weights", "ceiling": "another run"}


def layer_recurrence_figure(results: Sequence[Result]) -> Figure:
    """Draw mean correlations with their intervals, a group of bars per cell.

    Args:
        results: cells of :func:`ste_lightning.theory.network_recurrence.train_recurring_layer`.
    """
    figure = Figure(figsize=(8.4, 4.2), layout="constrained")
    axes = figure.subplots()
    for k, (column, words) in enumerate(_SHOWN.items()):
        found = [average(r.columns[column]) for r in results]
        value, low, high = (
            np.array([getattr(e, key) for e in found]) for key in ("value", "low", "high")
        )
        place = np.arange(len(results)) + 0.26 * (k - 1)
        error = np.maximum([value - low, high - value], 0)
        axes.bar(place, value, 0.24, color=PALETTE[k], label=words)
        axes.errorbar(place, value, error, fmt="none", ecolor="#333333", capsize=2)
        for x, v, top in zip(place, value, high, strict=True):
            axes.text(x, max(top, 0) + 0.02, f"{v:.2f}", ha="center", fontsize=8)
    names = [
        f"{'all layers train' if r.settings.get('others') else 'all else held'},\n"
        f"{'minibatches' if r.settings.get('batch_size') else 'all rows'}"
        for r in results
    ]
    axes.set_xticks(range(len(names)), names, fontsize=9)
    axes.set_ylabel("correlation with the time at the rarer sign")
    axes.set_ylim(min(0.0, axes.get_ylim()[0]), 1.15)
    grid(axes)
    figure.legend(
        loc="outside right center",
        frameon=False,
        title="predicted by",
        fontsize=9,
        title_fontsize=9,
    )
    figure.suptitle(
        "Which weights of a layer keep changing sign? By gradients, and by another run\n"
        f"digits, {shared_settings(results)}; bars: 95 % intervals",
        fontsize=11,
    )
    return figure
