"""Colours, axes and words that the studies' figures share."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from ste_lightning.figures.colours import BLUE, GREY, ORANGE
from ste_lightning.theory.estimates import Estimate
from ste_lightning.theory.studies.cells import EXPERIMENTS, label

if TYPE_CHECKING:
    from ste_lightning.theory.studies.runner import Result

__all__ = [
    "AVERAGED",
    "LAST",
    "bounds",
    "clean",
    "grid",
    "intervals",
    "legend",
    "shared_settings",
]

LAST, AVERAGED = ORANGE, BLUE
_SLOPES = {1: "slope $n$", 2: "$n^2$: proved, averaged", 4: "$n^4$: proved, last"}


def clean(axes: Axes) -> None:
    """Leave the left and the lower edge alone."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9)


def grid(axes: Axes) -> None:
    """Clean, with a faint grid behind the data."""
    axes.grid(color="#e8e8e8", linewidth=0.8)
    axes.set_axisbelow(True)
    clean(axes)


def shared_settings(results: Sequence[Result]) -> str:
    """Return what all cells have in common, for titles: "n = 32, m = 4, relu, T = 2000, ..."."""
    experiment = EXPERIMENTS[results[0].settings.get("experiment", "simulate")]
    parameters = inspect.signature(experiment).parameters
    words = []
    for key, form in (
        ("n", "n = {}"),
        ("m", "m = {}"),
        ("samples", "N = {}"),
        ("rule", "{}"),
        ("noise", "label noise {}"),
        ("steps", "T = {}"),
    ):
        default = parameters[key].default if key in parameters else None
        values = {label(r.settings.get(key, default)) for r in results}
        if len(values) == 1 and (value := values.pop()) not in ("None", "0.0"):
            words.append(form.format(value))
    if "trials" in parameters:
        trials = sorted({len(r.columns["trial"]) for r in results})
        words.append(
            f"{trials[0]} trials" if len(trials) == 1 else f"{trials[0]} to {trials[-1]} trials"
        )
    return ", ".join(words)


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
    """Draw lines of slope n^p from (sizes[0], start), named where they end, and in the legend.

    n^2 and n^4 are what the paper proves to be enough, up to a constant, for the averaged and for
    the last iterate.

    Args:
        axes: both of whose scales are, or will be, logarithmic; their y range is set here.
        sizes: the n, ascending.
        start: height of all lines at the first n.
        top: the upper end of the axes.
        powers: the p, among 1, 2 and 4.
    """
    axes.set_yscale("log")
    axes.set_ylim(start / 1.8, top)
    if len(sizes) < 2:
        return
    for power, style in zip(powers, (":", "--", "-.")[-len(powers) :], strict=True):
        line = start * (sizes / sizes[0]) ** power
        axes.plot(sizes, line, style, color=GREY, linewidth=1, label=_SLOPES[power])
        leaves = sizes[0] * (top / start) ** (1 / power)
        place = (leaves, top) if leaves < sizes[-1] else (sizes[-1], line[-1])
        axes.annotate(
            f"$n^{power}$" if power > 1 else "$n$",
            place,
            xytext=(4, -10 if leaves < sizes[-1] else 0),
            textcoords="offset points",
            fontsize=9,
            color="#555555",
        )
