"""Figure of the two-layer network on its way to the teacher."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from torch import Tensor

from ste_lightning.errors import require
from ste_lightning.figures.colours import BLUE, ORANGE

__all__ = ["convergence_figure"]


def convergence_figure(result: Mapping[str, Tensor], title: str = "") -> Figure:
    """Draw how far the trials are from their teachers after every step.

    Left: wrong signs of every trial (thin) and their median. Right: share of the trials at w*;
    trials whose coarse gradient died (zero at positive loss) are counted in the legend.

    Args:
        result: what ``BinaryTwoLayer.result()`` returned; needs ``trace_steps`` >= 1.
        title: heading of the figure.

    Raises:
        ConfigurationError: if the model kept no trace.
    """
    trace = result["hamming_trace"].cpu().numpy()
    require(len(trace) > 0, "trace_steps", len(trace), "train with trace_steps=300")
    steps = np.arange(1, len(trace) + 1)
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    figure.suptitle(title, fontsize=11)
    distance, share = figure.subplots(1, 2)
    distance.plot(steps, trace, color=BLUE, linewidth=0.5, alpha=0.25)
    distance.plot(steps, np.median(trace, axis=1), color=ORANGE, linewidth=2, label="median")
    distance.set(xscale="log", xlabel="step", ylabel="wrong signs", ylim=(-0.3, None))
    distance.yaxis.set_major_locator(MaxNLocator(integer=True))
    distance.legend(frameon=False)
    at_teacher = (trace == 0).mean(axis=1)
    dead = int(result["dead"].sum())
    label = f"{at_teacher[-1]:.0%} at the end" + (f", {dead} trials dead" if dead else "")
    share.plot(steps, at_teacher, color=BLUE, linewidth=2, label=label)
    share.set(xscale="log", xlabel="step", ylabel="trials at w*", ylim=(-0.03, 1.03))
    share.yaxis.set_major_formatter(PercentFormatter(1))
    share.legend(frameon=False)
    for axes in (distance, share):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#ececec", linewidth=0.8)
        axes.set_axisbelow(True)
    return figure
