"""Figures of a quantized network in training: flip ratios and latent weights, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from ste_lightning.errors import require
from ste_lightning.figures.colours import BLUE, PALE_BLUE

__all__ = ["flip_ratio_figure", "latent_histogram_figure"]

COLOR, FILL = BLUE, PALE_BLUE


def _rainbow(count: int) -> list[tuple[float, float, float]]:
    """Return colours from the first layer (dark blue) to the last (orange)."""
    first, last = np.array([0.07, 0.18, 0.42]), np.array([0.93, 0.55, 0.18])
    shares = np.linspace(0, 1, max(count, 2))[:count]
    return [tuple((1 - s) * first + s * last) for s in shares]


def flip_ratio_figure(history: Mapping[str, Sequence[tuple[int, float]]]) -> Figure:
    """Draw the flip ratio of every layer over the optimizer steps.

    Args:
        history: by layer, (step, flip ratio) in the order of the steps.

    Raises:
        ConfigurationError: for an empty history.
    """
    require(len(history) > 0, "history", dict(history), "log at least one value")
    figure = Figure(figsize=(7.5, 3.6), layout="constrained")
    axes = figure.subplots()
    for color, (name, points) in zip(_rainbow(len(history)), history.items(), strict=True):
        steps, values = np.array(points, dtype=float).reshape(-1, 2).T
        shown = np.where(values > 0, values, np.nan)
        axes.plot(steps, shown, color=color, linewidth=1.5, marker=".", markersize=4, label=name)
    positive = [v for points in history.values() for _, v in points if v > 0]
    if positive:
        axes.set_yscale("log")
    axes.set(xlabel="optimizer step", ylabel="share of weights\nthat change level in a step")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", linewidth=0.4, alpha=0.5)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def latent_histogram_figure(
    shares: Mapping[str, np.ndarray], edges: np.ndarray, saturated: Mapping[str, float]
) -> Figure:
    """Draw where every layer's latent weights lie, in units of their mean magnitude.

    Args:
        shares: by layer, the share of its weights in each bin, shape (bins,).
        edges: the bins' borders, shape (bins + 1,); the outermost bins hold what lies beyond.
        saturated: by layer, the share of weights that get no gradient.

    Raises:
        ConfigurationError: for no layers.
    """
    require(len(shares) > 0, "shares", dict(shares), "give at least one layer")
    columns = min(4, len(shares))
    rows = math.ceil(len(shares) / columns)
    size = (max(2.6 * columns, 4), 2.1 * rows + 0.3)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True).flatten()
    for axes, (name, share) in zip(panels, shares.items(), strict=False):
        axes.stairs(share, edges, fill=True, color=FILL)
        axes.stairs(share, edges, color=COLOR, linewidth=0.9)
        axes.axvline(0, color="#444444", linewidth=0.7, linestyle=":")
        axes.set_title(name, fontsize=9)
        note = f"{saturated.get(name, 0.0):.1%} without gradient"
        axes.text(0.98, 0.94, note, transform=axes.transAxes, ha="right", va="top", fontsize=7)
        axes.set_ylim(0, float(share.max()) * 1.25 + 1e-9)
        axes.set_yticks([])
        axes.spines[["top", "right", "left"]].set_visible(False)
    for axes in panels[len(shares) :]:
        axes.set_visible(False)
    figure.supxlabel("latent weight, in units of the layer's mean magnitude", fontsize=9)
    return figure
