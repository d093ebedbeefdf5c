"""Figures of the theory's studies, from their stored cells."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ste_lightning.theory.studies import tables
from ste_lightning.theory.studies.cells import label

if TYPE_CHECKING:
    from ste_lightning.theory.studies.runner import Result

__all__ = ["normalization_figure", "phase_figure", "recurrence_study_figure", "rules_figure"]

LAST, AVERAGED, GREY = "#d9730d", "#1f5fa8", "#8a8a8a"
COLORS = ["#1f5fa8", "#d9730d", "#2e8b57", "#8e44ad", "#7f6a4d", "#c0392b"]


def _clean(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9)


def phase_figure(results: Sequence[Result], smallest: int = 64) -> Figure:
    """Draw recovery over (n, N) with both N50 curves, and N50 against the bounds n^2 and n^4.

    Top: a panel per group of settings; colour is the last iterate's recovery, circles and
    diamonds N50 of the last and the averaged iterate. Bottom: N50 with 95 % intervals and the
    fitted exponents.

    Args:
        results: cells over n and samples, and perhaps rules, m or v.
        smallest: the smallest n of the fits.
    """
    found = tables.thresholds(results)
    names = list(dict.fromkeys(", ".join(t.group.values()) for t in found))
    columns = max(2, len(names))
    figure = Figure(figsize=(4.0 * columns, 8.0), layout="constrained")
    grid = figure.add_gridspec(2, columns, height_ratios=(1, 1.1))
    for place, name in enumerate(names):
        members = [t for t in found if ", ".join(t.group.values()) == name]
        _heat(figure.add_subplot(grid[0, place]), members, name or "recovery")
    axes = figure.add_subplot(grid[1, : columns - columns // 2])
    gap = figure.add_subplot(grid[1, columns - columns // 2 :])
    for name, color in zip(names, COLORS, strict=False):
        members = [t for t in found if ", ".join(t.group.values()) == name]
        _curve(axes, members, "last", color, f"{name} last")
        _curve(axes, members, "ergodic", color, f"{name} averaged")
        known = [
            (t.n, t.n50_last.value / t.n50_ergodic.value)
            for t in members
            if not math.isnan(t.n50_last.value) and not math.isnan(t.n50_ergodic.value)
        ]
        if known:
            gap.plot(*zip(*known, strict=True), color=color, marker="o", label=name or "ratio")
    sizes = np.array(sorted({t.n for t in found}), dtype=float)
    start = min((t.n50_last.value for t in found if not math.isnan(t.n50_last.value)), default=1.0)
    for power, style in ((1, ":"), (2, "--"), (4, "-.")):
        axes.plot(sizes, start * (sizes / sizes[0]) ** power, style, color=GREY, linewidth=1)
        axes.annotate(
            f"n^{power}", (sizes[-1], start * (sizes[-1] / sizes[0]) ** power), fontsize=8
        )
    top = max((v for t in found for v in t.samples), default=1)
    axes.set_ylim(start / 2, top * 4)
    fits = [
        f"{', '.join(group.values())} {'last' if it == 'last' else 'averaged'}: n^{fit}"
        for group, it, fit in tables.exponents(found, smallest)
    ]
    axes.set_title(f"exponents for n >= {smallest}\n" + "\n".join(fits), fontsize=8, loc="left")
    for panel, what in ((axes, "N50"), (gap, "N50 last / N50 averaged")):
        panel.set_xscale("log", base=2)
        panel.set_xticks(sizes, [f"{n:.0f}" for n in sizes])
        panel.set(xlabel="n", ylabel=what)
        panel.grid(color="#e8e8e8", linewidth=0.8)
        panel.set_axisbelow(True)
        _clean(panel)
    axes.set_yscale("log")
    axes.legend(frameon=False, fontsize=8)
    gap.set_title("the price of the last iterate", fontsize=10)
    gap.legend(frameon=False, fontsize=8)
    return figure


def _heat(axes: Axes, members: Sequence[tables.Threshold], title: str) -> None:
    for t in members:
        edges = np.sqrt(np.array(t.samples[:-1], float) * np.array(t.samples[1:], float))
        ratio = t.samples[1] / t.samples[0] if len(t.samples) > 1 else 2.0
        edges = np.concatenate([[t.samples[0] / ratio**0.5], edges, [t.samples[-1] * ratio**0.5]])
        x = np.array([t.n / 2**0.5, t.n * 2**0.5])
        rates = np.array(t.last)[:, None]
        axes.pcolormesh(x, edges, rates, cmap="Blues", vmin=0, vmax=1, rasterized=True)
    for which, marker, color in (("n50_last", "o", LAST), ("n50_ergodic", "D", "#222222")):
        points = [(t.n, getattr(t, which).value) for t in members]
        axes.plot(
            *zip(*points, strict=True),
            color=color,
            marker=marker,
            markersize=5,
            linewidth=1.4,
            label="N50 last" if which == "n50_last" else "N50 averaged",
        )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.set_xticks([t.n for t in members], [str(t.n) for t in members])
    axes.set(xlabel="n", ylabel="samples N")
    axes.set_title(title, fontsize=10)
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    _clean(axes)


def _curve(
    axes: Axes, members: Sequence[tables.Threshold], iterate: str, color: str, name: str
) -> None:
    estimates = [(t.n, t.n50_last if iterate == "last" else t.n50_ergodic) for t in members]
    known = [(n, e) for n, e in estimates if not math.isnan(e.value)]
    if not known:
        return
    n = [size for size, _ in known]
    value = np.array([e.value for _, e in known])
    spread = [value - [e.low for _, e in known], [e.high for _, e in known] - value]
    axes.errorbar(
        n,
        value,
        np.maximum(spread, 0),
        color=color,
        marker="o" if iterate == "last" else "D",
        linestyle="-" if iterate == "last" else "--",
        markersize=4,
        capsize=2,
        label=name.strip(),
    )


def rules_figure(results: Sequence[Result]) -> Figure:
    """Draw N50 of every rule with its interval, best on top; those that fail say why."""
    found = sorted(tables.thresholds(results), key=lambda t: -tables.order(t.n50_last))
    rows = {row["rule"]: row for row in tables.rule_rows(results)}
    figure = Figure(figsize=(8.5, 1.2 + 0.32 * len(found)), layout="constrained")
    axes = figure.subplots()
    right = max(max(t.samples) for t in found)
    for place, t in enumerate(found):
        name = t.group["rule"]
        for e, color, marker, shift in (
            (t.n50_last, LAST, "o", 0.12),
            (t.n50_ergodic, AVERAGED, "D", -0.12),
        ):
            if math.isnan(e.value):
                continue
            spread = [[e.value - e.low], [e.high - e.value]]
            axes.errorbar(
                e.value,
                place + shift,
                xerr=spread,
                color=color,
                marker=marker,
                markersize=5,
                capsize=2,
            )
        if math.isnan(t.n50_last.value):
            reason = str(rows[name]["in expectation"]).split(": ")[-1]
            text = f"recovers in {max(t.last):.0%} at N = {right}"
            text += "" if reason == "descends" else f"; {reason}"
            axes.annotate(text, (min(t.samples), place), va="center", fontsize=8, color="#a02020")
    axes.set_yticks(range(len(found)), [t.group["rule"] for t in found])
    axes.set_xscale("log", base=2)
    axes.set_xlim(min(t.samples[0] for t in found) / 1.1, right * 1.1)
    axes.set_ylim(-0.6, len(found) - 0.4)
    axes.set_xlabel("N50: samples at which half of the trials recover (orange last, blue averaged)")
    axes.grid(axis="x", color="#e8e8e8", linewidth=0.8)
    axes.set_axisbelow(True)
    _clean(axes)
    return figure


def normalization_figure(results: Sequence[Result]) -> Figure:
    """Draw a table of recovery: input distributions down, normalizations across, a panel a rule.

    A number is the last iterate's recovery; "†" marks cells in which most failures are dead
    runs, whose coarse gradient is exactly zero at positive loss.
    """
    rules, inputs, norms = (
        list(dict.fromkeys(label(r.settings.get(key, default)) for r in results))
        for key, default in (("rule", "relu"), ("inputs", "gaussian"), ("normalize", "none"))
    )
    figure = Figure(
        figsize=(1.2 + 4.2 * len(rules), 1.3 + 0.42 * len(inputs)), layout="constrained"
    )
    panels = figure.subplots(1, len(rules), squeeze=False)[0]
    for axes, rule in zip(panels, rules, strict=True):
        shown = np.full((len(inputs), len(norms)), np.nan)
        for r in results:
            if label(r.settings.get("rule", "relu")) != rule:
                continue
            row = inputs.index(label(r.settings.get("inputs", "gaussian")))
            column = norms.index(label(r.settings.get("normalize", "none")))
            rate, dead = np.mean(r.columns["last"]), np.mean(r.columns["dead"])
            shown[row, column] = rate
            mark = "†" if dead > (1 - rate) / 2 and dead > 0 else ""
            color = "white" if rate > 0.55 else "black"
            axes.text(column, row, f"{rate:.2f}{mark}", ha="center", va="center", color=color)
        axes.imshow(shown, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        axes.set_xticks(range(len(norms)), norms, fontsize=8)
        axes.set_yticks(range(len(inputs)), inputs, fontsize=8)
        axes.set_title(rule, fontsize=10)
    figure.suptitle("recovery of the last iterate († failures are mostly dead runs)", fontsize=10)
    return figure


def recurrence_study_figure(results: Sequence[Result]) -> Figure:
    """Draw traces, time at w* against noise and prediction, and return times.

    Args:
        results: cells over noise and samples.
    """
    figure = Figure(figsize=(13, 4.2), layout="constrained")
    grid = figure.add_gridspec(3, 3)
    by_noise = sorted(results, key=lambda r: (-r.settings["samples"], r.settings["noise"]))
    most = [r for r in by_noise if r.settings["samples"] == by_noise[0].settings["samples"]]
    chosen = [most[0], most[len(most) // 2], most[-1]]
    for place, r in enumerate(chosen):
        axes = figure.add_subplot(grid[place, 0])
        trace = np.array(r.columns["hamming"][0])
        axes.step(range(len(trace)), trace, color=AVERAGED, linewidth=0.9)
        axes.fill_between(
            range(len(trace)),
            -0.3,
            trace.max() + 0.3,
            where=trace == 0,
            color="#cfe8d5",
            linewidth=0,
            step="pre",
        )
        title = f"noise {r.settings['noise']:g}, N = {r.settings['samples']}, the last steps"
        axes.set_title(title, fontsize=9, loc="left", pad=2)
        axes.set_ylabel("wrong signs", fontsize=8)
        _clean(axes)
    middle, right = figure.add_subplot(grid[:, 1]), figure.add_subplot(grid[:, 2])
    sizes = sorted({r.settings["samples"] for r in results})
    for size, color in zip(sizes, COLORS, strict=False):
        members = sorted(
            (r for r in results if r.settings["samples"] == size), key=lambda r: r.settings["noise"]
        )
        noise = [r.settings["noise"] for r in members]
        seen = np.array([np.mean(r.columns["fraction"]) for r in members])
        error = [
            1.96 * np.std(r.columns["fraction"]) / len(r.columns["trial"]) ** 0.5 for r in members
        ]
        middle.errorbar(
            noise,
            seen,
            error,
            color=color,
            marker="o",
            linestyle="",
            capsize=2,
            label=f"N = {size}",
        )
        expected = [np.mean(r.columns["predicted_fraction"]) for r in members]
        middle.plot(noise, expected, color=color, linewidth=1.2)
    middle.set_xscale("log")
    middle.set(
        xlabel="label noise", ylabel="share of steps at w*", title="dots seen, lines predicted"
    )
    middle.legend(frameon=False, fontsize=8)
    for r, color in zip(chosen, COLORS, strict=False):
        counts = np.sum(r.columns["return_histogram"], axis=0)
        if counts.sum():
            left = 1 - np.concatenate([[0], np.cumsum(counts)]) / counts.sum()
            right.plot(
                np.where(left > 1e-9, left, np.nan),
                color=color,
                marker=".",
                label=f"noise {r.settings['noise']:g}",
            )
    right.set(xscale="symlog", yscale="log", xlabel="k steps", ylabel="P(return time > k)")
    right.set_title(f"return times, N = {chosen[0].settings['samples']}", fontsize=10)
    right.legend(frameon=False, fontsize=8)
    for axes in (middle, right):
        _clean(axes)
    return figure
