"""One weight between two levels: its path, and how often it changes level."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ste_lightning.figures.colours import GREY, palette
from ste_lightning.figures.studies.style import AVERAGED, LAST, grid, shared_settings
from ste_lightning.theory.oscillation import scalar_prediction
from ste_lightning.theory.studies.swings import swinging

if TYPE_CHECKING:
    from ste_lightning.theory.studies.runner import Result

__all__ = ["swing_figure"]

_WORDS = {"qat": "QAT", "regularized": "float training with a push", "dampened": "dampening"}


def swing_figure(results: Sequence[Result]) -> Figure:
    """Draw a weight's path, and the share of steps that change level against the target.

    Left: QAT of one weight whose target lies 0.3 of the way between two levels, by the closed
    form's steps, with two step sizes. Right: a dot per trial, a line per closed form.

    Args:
        results: cells of the experiment ``oscillation`` with n = 1.
    """
    shown = [r for r in results if r.settings.get("lr") == results[0].settings.get("lr")]
    methods = list(dict.fromkeys(str(r.settings.get("method", "qat")) for r in shown))
    figure = Figure(figsize=(4.2 + 3.2 * len(methods), 4.0), layout="constrained")
    axes = figure.subplots(1, 1 + len(methods), width_ratios=[1.3] + [1.0] * len(methods))
    _path(axes[0])
    for panel, method in zip(axes[1:], methods, strict=True):
        cells = [r for r in shown if r.settings.get("method", "qat") == method]
        for r, color in zip(cells, palette(), strict=False):
            _changes(panel, r, color)
        panel.set_title(_WORDS.get(method, method), fontsize=10)
        panel.set_xlim(0, 1)
        panel.set_ylim(-0.04, 1.12)
        panel.set_xlabel("target between two levels")
        if len(cells) > 1:
            panel.legend(frameon=False, fontsize=8, title="strength", title_fontsize=8)
        grid(panel)
    axes[1].set_ylabel("share of steps that change level")
    figure.suptitle(
        "A weight between two levels never comes to rest unless it is held "
        f"({shared_settings(results)}; dots: measured, lines: computed)",
        fontsize=11,
    )
    return figure


def _path(axes: Axes) -> None:
    target, steps = 0.3, 60
    for lr, color in ((0.2, LAST), (0.05, AVERAGED)):
        w, path = 0.42, []
        for _ in range(steps):
            path.append(w)
            w -= lr * (float(w >= 0.5) - target)
        axes.plot(path, color=color, marker=".", linewidth=1, label=f"step size {lr}")
    for height, name in ((0.0, "level"), (0.5, "threshold"), (1.0, "level")):
        axes.axhline(height, color=GREY, linewidth=1, linestyle="--" if height == 0.5 else "-")
        above = 0.06 if name == "threshold" else 0.015  # clear of the paths
        axes.text(steps, height + above, name, ha="right", fontsize=8, color="#555555")
    axes.axhline(target, color="#2e8b57", linewidth=1.4)
    axes.text(steps, target + 0.015, "target w*", ha="right", fontsize=8, color="#2e8b57")
    axes.set(xlabel="step", ylabel="latent weight")
    axes.set_title("at the upper level 30 % of the steps", fontsize=10)
    axes.set_ylim(-0.08, 1.12)
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(0.0, 0.88))
    grid(axes)


def _changes(axes: Axes, r: Result, color: str) -> None:
    found = swinging(r)
    strength = float(r.settings.get("strength", 0.0))
    u = torch.linspace(0.0, 1.0, 401, dtype=torch.float64)
    one = torch.ones((), dtype=torch.float64)
    method = str(r.settings.get("method", "qat"))
    line = scalar_prediction(u, 1.0, one, method, strength * one)["changes"]
    axes.plot(u, line, color=color, linewidth=1)
    axes.plot(
        found["place"], found["changes"], ".", color=color, markersize=3, label=f"{strength:g}"
    )
