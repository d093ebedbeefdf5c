"""Where training of both layers ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from ste_lightning.figures.studies.style import AVERAGED, LAST, clean, shared_settings
from ste_lightning.theory.statistics import wilson
from ste_lightning.theory.studies.cells import label
from ste_lightning.theory.studies.tables import varied

if TYPE_CHECKING:
    from ste_lightning.theory.studies.runner import Result

__all__ = ["outcome_figure"]


def outcome_figure(results: Sequence[Result]) -> Figure:
    """Draw shares of trials that end at w*, at -w* and elsewhere, a bar per cell, by rule.

    The black line is Wilson's 95 % interval of the share that ends at w*.

    Args:
        results: cells with ``distance``, over rules and other settings.
    """
    rules = list(dict.fromkeys(label(r.settings.get("rule", "relu")) for r in results))
    keys = sorted((key for key in varied(results) if key != "rule"), key="v_init".__eq__)
    results = sorted(results, key=lambda r: [str(r.settings.get(key)) for key in keys])
    names = list(dict.fromkeys(_name(r, keys) for r in results))
    figure = Figure(figsize=(1.8 + 3.4 * len(rules), 1.7 + 0.3 * len(names)), layout="constrained")
    panels = figure.subplots(1, len(rules), squeeze=False, sharey=True)[0]
    for axes, rule in zip(panels, rules, strict=True):
        for r in results:
            if label(r.settings.get("rule", "relu")) != rule:
                continue
            distance = np.array(r.columns["distance"])
            place, left = len(names) - 1 - names.index(_name(r, keys)), 0.0
            for share, color, name in (
                (np.mean(distance == 0), AVERAGED, "w*"),
                (np.mean((distance > 0) & (distance < r.settings["n"])), "#c9c9c9", "elsewhere"),
                (np.mean(distance == r.settings["n"]), LAST, "-w*"),
            ):
                axes.barh(place, share, left=left, color=color, label=name, height=0.75)
                left += float(share)
            there = int((distance == 0).sum())
            low, high = wilson(there, len(distance))
            axes.plot([low, high], [place, place], color="black", linewidth=1.2)
        axes.set_yticks(range(len(names)), names[::-1], fontsize=8)
        axes.set_xlim(0, 1)
        axes.set_ylim(-0.6, len(names) - 0.4)
        axes.set_xlabel("share of trials")
        axes.set_title(rule, fontsize=10)
        clean(axes)
    handles, labels = panels[0].get_legend_handles_labels()
    chosen = dict(zip(labels, handles, strict=True))
    figure.legend(
        chosen.values(),
        chosen.keys(),
        loc="outside upper center",
        ncols=3,
        frameon=False,
        title="Where does training of both layers end?\n"
        f"{shared_settings(results)}; lines: 95 % interval of w*",
        title_fontsize=9,
    )
    return figure


def _name(result: Result, keys: Sequence[str]) -> str:
    words = {"v_init": "start of v"}
    return ", ".join(
        f"{words.get(key, key)} = {label(result.settings.get(key, ''))}" for key in keys
    )
