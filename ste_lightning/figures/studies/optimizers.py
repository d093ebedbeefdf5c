"""Who stays at the teacher, optimizer by optimizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from ste_lightning.figures.colours import PALE_GREEN, palette
from ste_lightning.figures.studies.style import clean, grid, shared_settings
from ste_lightning.theory.statistics import wilson

if TYPE_CHECKING:
    from ste_lightning.theory.studies.runner import Result

__all__ = ["optimizer_figure"]


def optimizer_figure(results: Sequence[Result]) -> Figure:
    """Draw the share of trials at w* by step, what follows a first hit, and one trial each.

    Left: a share that falls again means that trials leave; dashed the smallest N. Middle, at
    the largest N: mean distance to the teacher over the trials that reached it, counted from
    each trial's first hit. Right: the trial that left most often after its first hit.

    Args:
        results: cells with traces (``every`` set), over optimizers and N.
    """
    sizes = sorted({r.settings["samples"] for r in results})
    most = [r for r in results if r.settings["samples"] == sizes[-1]]
    colors = {_name(r): color for r, color in zip(most, palette(), strict=False)}
    figure = Figure(figsize=(14, 4.6), layout="constrained")
    parts = figure.subfigures(1, 2, squeeze=False, width_ratios=(2, 1))[0]
    left, middle = parts[0].subplots(1, 2)
    for r in results:
        if r.settings["samples"] in (sizes[0], sizes[-1]):
            there = (np.array(r.columns["hamming"]) == 0).mean(0)
            steps = r.settings["every"] * np.arange(len(there))
            largest = r.settings["samples"] == sizes[-1]
            line = {"color": colors[_name(r)], "linestyle": "-" if largest else "--"}
            left.plot(steps[1:], there[1:], label=_name(r) if largest else None, **line)
            trials = len(r.columns["hamming"])
            low, high = wilson((torch.from_numpy(there[1:]) * trials).round(), trials)
            left.fill_between(steps[1:], low, high, color=colors[_name(r)], alpha=0.12, linewidth=0)
    for r in most:
        after = _after_hit(r)
        if len(after):
            steps = r.settings["every"] * np.arange(after.shape[1])
            mean, error = after.mean(0), 1.96 * after.std(0) / len(after) ** 0.5
            middle.plot(steps, mean, color=colors[_name(r)])
            ends = ((mean - error).clip(0), mean + error)
            middle.fill_between(steps, *ends, color=colors[_name(r)], alpha=0.12, linewidth=0)
    left.set(xscale="log", xlabel="step", ylabel="trials at w*", ylim=(-0.03, 1.03))
    left.yaxis.set_major_formatter(PercentFormatter(1.0))
    dashed = f", dashed N = {sizes[0]}" if len(sizes) > 1 else ""
    left.set_title(f"N = {sizes[-1]}{dashed}; no label noise", fontsize=10)
    parts[0].legend(loc="outside lower center", ncols=len(most), frameon=False, fontsize=9)
    middle.set(xlabel="steps since the first hit", ylabel="wrong signs, mean over trials")
    middle.set_title(f"at w* the gradient is zero, momentum is not; N = {sizes[-1]}", fontsize=10)
    for axes in (left, middle):
        grid(axes)
    rows = parts[1].subplots(len(most), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    most_wrong = [_one_trial(axes, r, colors[_name(r)]) for axes, r in zip(rows, most, strict=True)]
    rows[0].set_ylim(-0.3, max(2, *most_wrong) + 0.3)
    rows[-1].set_xlabel("steps since the first hit")
    parts[1].supylabel("wrong signs", fontsize=10)
    parts[1].suptitle(f"the worst trial of each, green at w*; N = {sizes[-1]}", fontsize=10)
    title = "Which optimizers rest at the teacher once they are there?"
    figure.suptitle(f"{title}\n{shared_settings(results)}; bands: 95 % intervals", fontsize=11)
    return figure


def _after_hit(result: Result) -> npt.NDArray[np.int64]:
    """Return the traces from the first hit on, rounded up to a recorded step, (hits, third)."""
    every, trace = result.settings["every"], np.array(result.columns["hamming"])
    window = trace.shape[1] // 3
    starts = [-(-hit // every) if hit >= 0 else -1 for hit in result.columns["first_hit"]]
    rows = [
        trace[trial, start : start + window]
        for trial, start in enumerate(starts)
        if 0 <= start <= trace.shape[1] - window
    ]
    return np.array(rows)


def _one_trial(axes: Axes, result: Result, color: str) -> int:
    """Draw the trace that leaves w* most often, shaded where it is there; return its maximum."""
    after = _after_hit(result)
    axes.set_title(_name(result), fontsize=9, loc="left", pad=2)
    clean(axes)
    if not len(after):
        return 0
    leaves = ((after[:, :-1] == 0) & (after[:, 1:] > 0)).sum(1)
    trace = after[leaves.argmax()]
    steps = result.settings["every"] * np.arange(len(trace))
    axes.step(steps, trace, where="post", color=color, linewidth=1)
    there = trace == 0
    whole = axes.get_xaxis_transform()  # from the bottom to the top, whatever the limits
    axes.fill_between(
        steps, 0, 1, where=there, transform=whole, color=PALE_GREEN, linewidth=0, step="post"
    )
    return int(trace.max())


def _name(result: Result) -> str:
    name = str(result.settings.get("optimizer", "sgd"))
    momentum = result.settings.get("momentum", 0.0)
    return f"{name}, momentum {momentum:g}" if momentum else name
