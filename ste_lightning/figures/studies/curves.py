"""Means over trials against a setting: a curve per value of one setting, a panel per another."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter, NullLocator

from ste_lightning.figures.colours import PALETTE
from ste_lightning.figures.studies.style import grid, shared_settings
from ste_lightning.theory.estimates import Estimate
from ste_lightning.theory.statistics import average
from ste_lightning.theory.studies.cells import label

if TYPE_CHECKING:
    from ste_lightning.theory.studies.runner import Result

__all__ = ["curves_figure"]

_TICKS = 10  # values that are named along an axis


def curves_figure(
    results: Sequence[Result],
    *,
    x: str,
    y: str,
    curves: Sequence[str],
    panels: Sequence[str] = (),
    title: str = "",
    xlabel: str = "",
    ylabel: str = "",
    names: Mapping[str, str] | None = None,
    best: str = "",
    log: Sequence[str] = (),
) -> Figure:
    """Draw the means of a column with their bootstrap intervals.

    Args:
        results: cells.
        x: the setting along the axis, a number.
        y: the column.
        curves: the settings that make a curve.
        panels: the settings that make a panel; default one panel.
        title: what is seen, in a sentence.
        xlabel: what x is; default its name.
        ylabel: what y is; default its name.
        names: words in place of a curve's or panel's values, joined by ", ".
        best: ``low`` or ``high`` rings each curve's best place.
        log: ``x``, ``y`` or both: logarithmic axes.
    """
    words = dict(names or {})

    def name(r: Result, keys: Sequence[str]) -> str:
        text = ", ".join(label(r.settings.get(key, "")) for key in keys)
        return words.get(text, text)

    shown = list(dict.fromkeys(name(r, panels) for r in results))
    lines = -(-len(shown) // 4)  # up to four side by side, all lines about equally full
    columns = -(-len(shown) // lines)
    width = 5.0 if len(shown) == 1 else 2.9 * columns
    figure = Figure(figsize=(width + 3.2, max(3.6, 2.7 * lines + 1.0)), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    for spare in axes.flat[len(shown) :]:
        spare.set_axis_off()
    drawn = dict(zip(dict.fromkeys(name(r, curves) for r in results), _styles(), strict=False))
    values = sorted({float(r.settings[x]) for r in results})
    for panel, part in zip(axes.flat, shown, strict=False):
        for curve, style in drawn.items():
            cells = [r for r in results if name(r, panels) == part and name(r, curves) == curve]
            if cells:
                trials: dict[float, list[float]] = {}  # of all cells at a place, such as seeds
                for r in sorted(cells, key=lambda r: float(r.settings[x])):
                    trials.setdefault(float(r.settings[x]), []).extend(r.columns[y])
                found = [average(values) for values in trials.values()]
                _draw(panel, list(trials), found, best, label=curve, **style)
        panel.set_title(part, fontsize=10)
        for axis in log:
            getattr(panel, f"set_{axis}scale")("log")
        if "y" in log:
            panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            panel.yaxis.set_major_formatter(FormatStrFormatter("%g"))
            panel.yaxis.set_minor_formatter(NullFormatter())
        if len(values) <= _TICKS:
            panel.set_xticks(values, [f"{value:g}" for value in values])
            panel.xaxis.set_minor_locator(NullLocator())
            panel.xaxis.set_minor_formatter(NullFormatter())
        grid(panel)
    figure.supxlabel(xlabel or x, fontsize=10)
    figure.supylabel(ylabel or y, fontsize=10)
    for panel in axes.flat[max(0, len(shown) - columns) : len(shown)]:
        panel.xaxis.set_tick_params(labelbottom=True)  # also where the line below is shorter
    named = {text: handle for panel in axes.flat for handle, text in _named(panel)}
    notes = f"{shared_settings(results)}; bars: 95 % intervals"
    figure.suptitle(f"{title}\n{notes}" if title else notes, fontsize=11)
    figure.legend(
        named.values(), named.keys(), loc="outside right center", frameon=False, fontsize=9
    )
    return figure


def _named(axes: Axes) -> Iterator[tuple[Any, str]]:
    return zip(*axes.get_legend_handles_labels(), strict=True)


def _styles() -> Iterator[dict[str, Any]]:
    """Return looks without end: the palette with circles, then dashed with squares, and so on."""
    looks = itertools.cycle([("-", "o"), ("--", "s"), (":", "^")])
    while True:
        line, marker = next(looks)
        for color in PALETTE:
            yield {"color": color, "linestyle": line, "marker": marker, "markersize": 4}


def _draw(
    axes: Axes, x: Sequence[float], found: Sequence[Estimate], best: str, **style: Any
) -> None:
    value, low, high = (np.array([getattr(e, k) for e in found]) for k in ("value", "low", "high"))
    axes.errorbar(x, value, np.maximum([value - low, high - value], 0), capsize=2, **style)
    if best:
        chosen = min if best == "low" else max
        k = chosen(range(len(found)), key=lambda i: found[i].value)
        ring = {"color": style["color"], "markersize": 11, "fillstyle": "none"}
        axes.plot(x[k], found[k].value, "o", **ring)
