"""Colours and axes that the studies' figures share."""

from __future__ import annotations

from matplotlib.axes import Axes

__all__ = ["AVERAGED", "COLORS", "GREY", "LAST", "clean", "grid"]

LAST, AVERAGED, GREY = "#d9730d", "#1f5fa8", "#8a8a8a"
COLORS = ["#1f5fa8", "#d9730d", "#2e8b57", "#8e44ad", "#7f6a4d", "#c0392b"]


def clean(axes: Axes) -> None:
    """Leave the left and the lower edge alone."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9)


def grid(axes: Axes) -> None:
    """Clean, with a faint grid behind the data."""
    axes.grid(color="#e8e8e8", linewidth=0.8)
    axes.set_axisbelow(True)
    clean(axes)
