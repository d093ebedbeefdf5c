"""Colours and axes that the studies' figures share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from ste_lightning.theory.statistics import Estimate

__all__ = ["AVERAGED", "COLORS", "GREY", "LAST", "bounds", "clean", "grid", "intervals", "legend"]

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


def legend(axes: Axes, **options: Any) -> None:
    """Name what is drawn, if anything is: all values may be mere bounds."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=8, **options)


def intervals(
    axes: Axes, x: Sequence[float], estimates: Sequence[Estimate], per: float = 1.0, **options: Any
) -> None:
    """Draw values with their intervals; a triangle at an end means that the interval is open.

    Args:
        axes: where.
        x: places.
        estimates: with known values, one per place.
        per: divides all values.
        options: of ``errorbar``.
    """
    value = np.array([e.value for e in estimates]) / per
    low, high = (np.array([getattr(e, end) for e in estimates]) / per for end in ("low", "high"))
    above, below = np.isinf(high), (low == 0) | np.isinf(low)
    low, high = np.where(below, value / 1.5, low), np.where(above, value * 1.5, high)
    spread = np.maximum([value - low, high - value], 0)
    axes.errorbar(x, value, spread, **{"capsize": 2, **options})
    for open_end, end, marker in ((above, high, "^"), (below, low, "v")):
        if open_end.any():
            axes.plot(np.array(x)[open_end], end[open_end], marker, color=options.get("color"))


def bounds(
    axes: Axes,
    sizes: npt.NDArray[np.float64],
    start: float,
    top: float,
    powers: Sequence[int] = (2, 4),
) -> None:
    """Draw lines of slope n^p from (sizes[0], start), each named where it leaves the axes.

    Args:
        axes: both of whose scales are, or will be, logarithmic; their y range is set here.
        sizes: the n, ascending.
        start: height of all lines at the first n.
        top: the upper end of the axes.
        powers: the p.
    """
    axes.set_yscale("log")
    axes.set_ylim(start / 1.8, top)
    if len(sizes) < 2:
        return
    for power, style in zip(powers, (":", "--", "-.")[-len(powers) :], strict=True):
        line = start * (sizes / sizes[0]) ** power
        axes.plot(sizes, line, style, color=GREY, linewidth=1)
        leaves = sizes[0] * (top / start) ** (1 / power)
        place = (leaves, top) if leaves < sizes[-1] else (sizes[-1], line[-1])
        axes.annotate(
            f"$n^{power}$",
            place,
            xytext=(4, -10 if leaves < sizes[-1] else 0),
            textcoords="offset points",
            fontsize=9,
            color="#555555",
        )
