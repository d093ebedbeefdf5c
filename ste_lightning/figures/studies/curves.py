"""Means over trials against a setting: a curve per value of one setting, a panel per another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator

from ste_lightning.figures.colours import palette
from ste_lightning.figures.studies.style import grid, intervals, shared_settings
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
    columns = min(4, len(shown))
    lines = -(-len(shown) // columns)
    figure = Figure(
        figsize=(max(6.4, 3.3 * columns + 0.6), 2.7 * lines + 1.5), layout="constrained"
    )
    axes = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    for spare in axes.flat[len(shown) :]:
        spare.set_axis_off()
    drawn = dict(zip(dict.fromkeys(name(r, curves) for r in results), palette(), strict=False))
    values = sorted({float(r.settings[x]) for r in results})
    for panel, part in zip(axes.flat, shown, strict=False):
        for curve, color in drawn.items():
            cells = [r for r in results if name(r, panels) == part and name(r, curves) == curve]
            if cells:
                cells.sort(key=lambda r: float(r.settings[x]))
                found = [average(r.columns[y]) for r in cells]
                _draw(panel, [r.settings[x] for r in cells], found, color, curve, best)
        panel.set_title(part, fontsize=10)
        for axis in log:
            getattr(panel, f"set_{axis}scale")("log")
        if len(values) <= _TICKS:
            panel.set_xticks(values, [f"{value:g}" for value in values])
            panel.xaxis.set_minor_locator(NullLocator())
            panel.xaxis.set_minor_formatter(NullFormatter())
        grid(panel)
    figure.supxlabel(xlabel or x, fontsize=10)
    figure.supylabel(ylabel or y, fontsize=10)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    notes = f"{shared_settings(results)}; bars: 95 % intervals"
    figure.suptitle(f"{title}\n{notes}" if title else notes, fontsize=11)
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return figure


def _draw(
    axes: Axes, x: Sequence[float], found: Sequence[Estimate], color: str, name: str, best: str
) -> None:
    intervals(axes, x, found, color=color, marker="o", markersize=4, label=name)
    if best:
        chosen = min if best == "low" else max
        k = chosen(range(len(found)), key=lambda i: found[i].value)
        axes.plot(x[k], found[k].value, "o", color=color, markersize=11, fillstyle="none")
