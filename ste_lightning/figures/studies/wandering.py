"""Figures of the wandering last iterate and of the window of one step: dots on computed lines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ste_lightning.figures.colours import PALETTE
from ste_lightning.figures.studies.style import grid, legend, shared_settings
from ste_lightning.theory.estimates import Estimate
from ste_lightning.theory.statistics import average
from ste_lightning.theory.studies.wanderers import window_of, wrong_share
from ste_lightning.theory.wandering import wandering
from ste_lightning.theory.window import best_window
from ste_lightning.theory.window_samples import expected_cosine

if TYPE_CHECKING:
    from ste_lightning.theory.studies.runner import Result

__all__ = ["wandering_figure", "window_step_figure"]


def _dots(axes: Axes, x: Sequence[float], found: Sequence[Estimate], color: str, name: str) -> None:
    value, low, high = (np.array([getattr(e, k) for e in found]) for k in ("value", "low", "high"))
    error = np.maximum([value - low, high - value], 0)
    axes.errorbar(x, value, error, fmt="o", color=color, markersize=4, capsize=2, label=name)


def wandering_figure(results: Sequence[Result]) -> Figure:
    """Draw the share of wrong signs against N / n (identity) and against the window's width.

    Args:
        results: cells of the identity at m = 1, and of windows at one other m.
    """
    figure = Figure(figsize=(9.6, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    seen = [(r, e) for r in results if (e := wrong_share(r))]
    one = [(r.settings["samples"] / r.settings["n"], e) for r, e in seen if r.settings["m"] == 1]
    if one:
        ratios = np.geomspace(min(x for x, _ in one) / 1.2, max(x for x, _ in one) * 1.2, 30)
        left.plot(ratios, [wandering(x).wrong for x in ratios], color=PALETTE[0], label="computed")
        _dots(left, [x for x, _ in one], [e for _, e in one], PALETTE[0], "measured")
    left.set(xscale="log", yscale="log", xlabel="samples per input, N / n")
    left.set(ylabel="share of the signs that are wrong")
    ticks = sorted({round(x, 1) for x, _ in one})
    left.set_xticks(ticks, [f"{x:g}" for x in ticks])
    left.set_xticks([], minor=True)
    shares = [0.03, 0.05, 0.1, 0.2]
    left.set_yticks(shares, [f"{y:g}" for y in shares])
    left.set_yticks([], minor=True)
    left.set_title("identity, m = 1", fontsize=10)
    rest = [(r, e) for r, e in seen if r.settings["m"] != 1]
    widths = sorted({window_of(r.settings["rule"]) for r, _ in rest})
    for k, samples in enumerate(sorted({r.settings["samples"] for r, _ in rest})):
        here = [(r, e) for r, e in rest if r.settings["samples"] == samples]
        s, color = here[0][0].settings, PALETTE[(k + 1) % len(PALETTE)]
        line = np.geomspace(widths[0], widths[-1], 30)
        share = [wandering(samples / s["n"], width=w, concentration=1 / s["m"]).wrong for w in line]
        right.plot(line, share, color=color)
        places = [window_of(r.settings["rule"]) for r, _ in here]
        _dots(right, places, [e for _, e in here], color, f"N = {samples / s['n']:g} n")
    right.set(xscale="log", xlabel="window: f'(a) = 1 for |a| up to", ylim=(0, None))
    right.set_xticks(widths, [f"{w:g}" for w in widths])
    right.set_xticks([], minor=True)
    right.set_title(f"windows, m = {rest[0][0].settings['m']}" if rest else "", fontsize=10)
    for axes in (left, right):
        grid(axes)
        legend(axes)
    figure.suptitle(
        "Signs that are wrong while a run wanders: dots measured, lines computed, nothing fitted\n"
        f"{shared_settings(results)}; bars: 95 % intervals",
        fontsize=11,
    )
    return figure


def window_step_figure(results: Sequence[Result]) -> Figure:
    """Draw the cosine between a step and the way to w* against the window, a panel per mistakes.

    Args:
        results: cells of :func:`ste_lightning.theory.window_samples.sample_window`.
    """
    mistakes = sorted({r.settings["wrong"] for r in results})
    figure = Figure(figsize=(4.6 * len(mistakes) + 0.6, 4.2), layout="constrained")
    panels = figure.subplots(1, len(mistakes), squeeze=False)[0]
    for axes, wrong in zip(panels, mistakes, strict=True):
        here = [r for r in results if r.settings["wrong"] == wrong]
        for color, m in zip(PALETTE, sorted({r.settings["m"] for r in here}), strict=False):
            cells = sorted(
                (r for r in here if r.settings["m"] == m), key=lambda r: float(r.settings["width"])
            )
            s, widths = cells[0].settings, [r.settings["width"] for r in cells]
            line = np.geomspace(widths[0], widths[-1], 60)
            n, N = s["n"], s["samples"]
            axes.plot(line, [expected_cosine(n, m, N, wrong, w) for w in line], color=color)
            _dots(axes, widths, [average(r.columns["cosine"]) for r in cells], color, f"m = {m}")
            best = best_window(math.acos(1 - 2 * wrong / n), 1 / m)
            if best <= widths[-1]:
                axes.axvline(best, color=color, linestyle=":", linewidth=1)
        axes.set(xscale="log", xlabel="window: f'(a) = 1 for |a| up to", ylim=(0, None))
        axes.set_xticks([0.1, 0.2, 0.5, 1, 2, 3], ["0.1", "0.2", "0.5", "1", "2", "3"])
        axes.set_xticks([], minor=True)
        axes.set_title(f"{wrong} wrong sign{'s' if wrong > 1 else ''}", fontsize=10)
        grid(axes)
    panels[0].set_ylabel("cosine of step and way to the teacher")
    legend(panels[0])
    figure.suptitle(
        "Which window makes one step point best? Dots sampled, lines computed, dotted: best\n"
        f"{shared_settings(results)}; bars: 95 % intervals",
        fontsize=11,
    )
    return figure
