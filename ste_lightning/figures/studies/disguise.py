"""How far a rule on the weights is from the identity in disguise, against the step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ste_lightning.figures.colours import BLUE, GREY, ORANGE
from ste_lightning.figures.studies.style import grid
from ste_lightning.theory.studies.disguise import Disguise, disguises

if TYPE_CHECKING:
    from ste_lightning.theory.studies.runner import Result

__all__ = ["disguise_figure"]

_FLOOR = 2e-5  # distances below it are drawn there
_STAYS = 0.02  # a limit above it is no limit of 0


def disguise_figure(results: Sequence[Result]) -> Figure:
    """Draw the distance to the identity's run against the step, descent left and Adam right.

    Args:
        results: cells over rules, step sizes and optimizers.
    """
    found = disguises(results)
    figure = Figure(figsize=(11.5, 5.0), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    descent = [d for d in found if d.optimizer == "sgd"]
    memory = min((d.beta2 for d in found if d.optimizer == "adam"), default=0.0)
    adam = [d for d in found if d.optimizer == "adam" and d.beta2 == memory]
    _panel(left, descent, 1.0)
    for k, d in enumerate(descent):
        same = [max(e.value, _FLOOR) for e in d.unchanged]
        name = "the start is not changed" if k == 0 else None
        left.plot(d.lr, same, color=GREY, lw=0.8, ls=":", label=name)
    left.set_xlabel("step size")
    left.set_title("SGD: start and step size changed", fontsize=11)
    left.legend(frameon=False, fontsize=9, loc="lower right")
    _panel(right, adam, 1 - memory)
    right.set_xlabel("step size / (1 - β₂): the way that Adam remembers")
    right.set_title(f"Adam, β₂ = {memory:g}: nothing changed", fontsize=11)
    if right.get_legend_handles_labels()[0]:  # the part of Adam may be left out
        right.legend(frameon=False, fontsize=9, loc="lower right")
    left.set_ylabel("distance between the ends of both runs\n(1: as far as they went)")
    figure.suptitle("Is a backward rule on the weights the identity in disguise?", fontsize=13)
    return figure


def _panel(axes: Axes, found: Sequence[Disguise], per: float) -> None:
    """Draw curves: blue falls to 0, orange does not; named at their left ends."""
    axes.set_xscale("log")
    axes.set_yscale("log")
    ends: list[tuple[float, str, str]] = []
    words = {BLUE: "falls with the step", ORANGE: "does not"}
    for d in found:
        x, y = np.array(d.lr) / per, np.array([max(e.value, _FLOOR) for e in d.distance])
        stays = d.limit.low > _STAYS
        color = ORANGE if stays else BLUE
        axes.plot(x, y, "o-", color=color, ms=3.5, lw=1.2, label=words.pop(color, None))
        ends.append((float(y[0]), d.rule, color))
    if ends:
        x = np.array(sorted(found[0].lr)[:4]) / per
        line = np.median([d.distance[0].value for d in found]) * x / x[0]
        axes.plot(x, line, "--", color="black", lw=1, label="in proportion to the step")
        _names(axes, ends, float(x[0]))
    grid(axes)


def _names(axes: Axes, ends: Sequence[tuple[float, str, str]], x: float) -> None:
    """Write names left of the curves, moved apart where they would cover each other."""
    low, high = np.log10(_FLOOR), 0.5
    axes.set_ylim(10**low / 1.5, 10**high)
    axes.set_xlim(x / 12, None)
    step = (high - low) / 27
    place = -np.inf
    for y, name, color in sorted(ends):
        place = max(float(np.log10(y)), place + step)
        axes.annotate(
            name,
            (x, y),
            xytext=(x / 1.35, 10**place),
            fontsize=8,
            color=color,
            ha="right",
            va="center",
            arrowprops={"arrowstyle": "-", "color": color, "lw": 0.4, "shrinkA": 0, "shrinkB": 2},
        )
