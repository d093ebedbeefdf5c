"""Recovery by input distribution and normalization."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ste_lightning.figures.studies.style import shared_settings
from ste_lightning.theory.statistics import wilson
from ste_lightning.theory.studies.cells import label
from ste_lightning.theory.studies.normalization import diagnosis, normalization_of, place_of
from ste_lightning.theory.studies.tables import varied

if TYPE_CHECKING:
    from ste_lightning.theory.studies.runner import Result

__all__ = ["normalization_figure"]

_DIAGNOSIS = ("mean", "features", "rows", "correlation")
_HEADS = {"none": "raw", "standardize_layer_norm": "standardize,\nlayer norm"}


def normalization_figure(results: Sequence[Result]) -> Figure:
    """Draw a table of recovery: inputs (or N, m) down, normalizations across, a panel a rule.

    A number is the last iterate's recovery, in small print the averaged one's where the two
    differ by 0.05 or more; "†" marks cells in which most failures are dead runs, whose coarse
    gradient is exactly zero at positive loss. Left: what is wrong with the raw inputs, see
    :class:`ste_lightning.theory.studies.normalization.Diagnosis`.
    """
    others = [key for key in varied(results) if key not in ("rule", "normalize", "labels")]
    rules = list(dict.fromkeys(label(r.settings.get("rule", "relu")) for r in results))
    norms = list(dict.fromkeys(normalization_of(r) for r in results))
    places = {place_of(r, others): r for r in results}
    figure = Figure(
        figsize=(4.2 + (0.6 + 0.75 * len(norms)) * len(rules), 2.1 + 0.34 * len(places)),
        layout="constrained",
    )
    widths = [len(_DIAGNOSIS) * 0.8, *[len(norms)] * len(rules)]
    left, *panels = figure.subplots(1, 1 + len(rules), width_ratios=widths)
    _diagnosed(left, places)
    for axes, rule in zip(panels, rules, strict=True):
        shown = np.full((len(places), len(norms)), np.nan)
        for r in results:
            if label(r.settings.get("rule", "relu")) != rule:
                continue
            row, column = list(places).index(place_of(r, others)), norms.index(normalization_of(r))
            rate, averaged, dead = (np.mean(r.columns[k]) for k in ("last", "ergodic", "dead"))
            shown[row, column] = rate
            mark = "†" if dead > (1 - rate) / 2 and dead > 0 else ""
            color = "white" if rate > 0.55 else "black"
            text = {"ha": "center", "va": "center", "color": color}
            apart = abs(averaged - rate) >= 0.05
            axes.text(column, row - 0.14 * apart, f"{rate:.2f}{mark}", fontsize=8, **text)
            if apart:
                axes.text(column, row + 0.27, f"av. {averaged:.2f}", fontsize=5.5, **text)
        axes.imshow(shown, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        axes.set_yticks([])
        _heads(axes, [_HEADS.get(name, name).replace("_", " ") for name in norms])
        axes.set_title(rule, fontsize=10)
    trials = min(len(r.columns["last"]) for r in results)
    low, high = (float(end) for end in wilson(trials // 2, trials))
    figure.suptitle(
        "recovery of the last iterate († failures are mostly dead runs; av.: the averaged one)\n"
        f"{shared_settings(results)} a cell: 95 % interval at most ± {(high - low) / 2:.2f}",
        fontsize=10,
    )
    return figure


def _diagnosed(axes: Axes, places: dict[str, Result]) -> None:
    """Print each row's diagnosis, darker the further it is from that of Gaussian inputs."""
    found = [
        diagnosis(r.settings.get("inputs", "gaussian"), r.settings["n"]) for r in places.values()
    ]
    numbers = np.array([[getattr(d, name) for name in _DIAGNOSIS] for d in found])
    # On one scale of 0 to 1: a mean or correlation of 1, a factor of 10 between features.
    usual = np.array([[0, 1, (2 * r.settings["n"]) ** -0.5, 0] for r in places.values()])
    wrong = np.abs(numbers - usual)
    wrong[:, 1] = np.log10(numbers[:, 1])
    axes.imshow(wrong, cmap="Oranges", vmin=0, vmax=1.6, aspect="auto")
    for (row, column), value in np.ndenumerate(numbers):
        form = f"{value:.2f}"
        if column == 1:
            form = f"{value:.3g}" if value < 1000 else f"{value:.0e}".replace("e+0", "e")
        color = "white" if wrong[row, column] > 1 else "black"
        axes.text(column, row, form, ha="center", va="center", fontsize=8, color=color)
    axes.set_yticks(range(len(places)), list(places), fontsize=8)
    _heads(axes, ["mean", "scales of\nfeatures", "scales of\nrows", "correlation"])
    axes.set_title("raw inputs", fontsize=10)


def _heads(axes: Axes, names: Sequence[str]) -> None:
    names = [name.replace(", raw labels", ",\nraw labels") for name in names]
    axes.set_xticks(range(len(names)), names, fontsize=7, rotation=40, ha="right")
    axes.tick_params(length=0)
