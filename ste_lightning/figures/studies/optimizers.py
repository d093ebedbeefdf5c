"""Who stays at the teacher, optimizer by optimizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from ste_lightning.figures.studies.style import COLORS, grid

if TYPE_CHECKING:
    from ste_lightning.theory.studies.runner import Result

__all__ = ["optimizer_figure"]


def optimizer_figure(results: Sequence[Result]) -> Figure:
    """Draw, at the largest N, the share of trials at w* by step, and wrong signs after a hit.

    Left: a share that falls again means that trials leave. Right: mean distance to the teacher
    over the trials that reached it, counted from each trial's first hit.

    Args:
        results: cells with traces (``every`` set), over optimizers and N.
    """
    most = max(r.settings["samples"] for r in results)
    shown = [r for r in results if r.settings["samples"] == most]
    figure = Figure(figsize=(9.5, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    for r, color in zip(shown, COLORS, strict=False):
        every = r.settings["every"]
        trace = np.array(r.columns["hamming"])
        steps = every * np.arange(trace.shape[1])
        left.plot(steps, (trace == 0).mean(0), color=color, label=_name(r))
        # Aligned at the first hit, rounded up to the next recorded step.
        starts = [-(-hit // every) for hit in r.columns["first_hit"]]
        window = trace.shape[1] // 3
        after = [
            trace[trial, start : start + window]
            for trial, start in enumerate(starts)
            if 0 <= start <= trace.shape[1] - window
        ]
        if after:
            right.plot(every * np.arange(window), np.mean(after, axis=0), color=color)
    left.set(xlabel="step", ylabel="trials at w*", ylim=(-0.03, 1.03))
    left.yaxis.set_major_formatter(PercentFormatter(1.0))
    left.set_title(f"N = {most}, no label noise", fontsize=10)
    left.legend(frameon=False, fontsize=8)
    right.set(xlabel="steps since the first hit", ylabel="wrong signs, mean over trials")
    right.set_title("the gradient is zero at w*, the momentum is not", fontsize=10)
    for axes in (left, right):
        grid(axes)
    return figure


def _name(result: Result) -> str:
    name = str(result.settings.get("optimizer", "sgd"))
    momentum = result.settings.get("momentum", 0.0)
    return f"{name}, momentum {momentum:g}" if momentum else name
