"""Students that reach their teacher, leave it and return, as charts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ste_lightning.reports.html import charts
from ste_lightning.reports.html.page import Chart, Part, Text
from ste_lightning.reports.html.training import points_table

__all__ = ["survival", "visit_charts"]


def visit_charts(facts: Mapping[str, Any]) -> list[Part]:
    """Return wrong signs over time, the share of steps at the teacher and the ways back.

    Args:
        facts: of :func:`ste_lightning.reports.html.network.facts_of_network`.
    """
    parts: list[Part] = []
    traces = facts.get("wrong_signs") or []
    if traces and len(traces[0]) > 1:
        steps = len(traces[0])
        shown = min(steps, 2 * max(_last_change(trace) for trace in traces) + 10)
        named = {f"trial {i + 1}": list(enumerate(t[:shown], 1)) for i, t in enumerate(traces)}
        spec = charts.lines(named, "step", "wrong signs", "trial", zero=True, shape="step-after")
        note = "0 wrong signs: the student is at its teacher."
        if shown < steps:
            note += f" Nothing changes from step {shown} to the last, {steps}."
        parts.append(Chart("Wrong signs, the first trials", note, spec, wide=True))
    fractions = facts.get("fractions") or []
    if fractions:
        mean = sum(fractions) / len(fractions)
        parts.append(
            Text(f"Mean share of the steps at the teacher: {mean:.3f} ({len(fractions)} trials).")
        )
    returns = facts.get("return_times") or []
    if sum(returns):
        parts.append(_returns(returns))
    return parts


def _last_change(trace: Sequence[float]) -> int:
    """Return the last step at which a trace changes."""
    return max((k for k in range(1, len(trace)) if trace[k] != trace[k - 1]), default=0)


def survival(histogram: Sequence[int]) -> list[tuple[float, float]]:
    """Return the share of the ways back that take longer than k steps, for k = 0, 1, ...

    Args:
        histogram: ways back of 1, 2, ... steps.

    Returns:
        Points (k, share) as long as the share is positive.
    """
    total = left = sum(histogram)
    points = []
    for k, count in enumerate(histogram):
        if not left:
            break
        points.append((float(k), left / total))
        left -= count
    return points


def _returns(histogram: Sequence[int]) -> Chart:
    points = survival(histogram)
    half = next((k for k, share in points if share <= 0.5), points[-1][0] + 1)
    spec = charts.lines(
        {"returns": points}, "k, steps", "longer than k", log_y=True, shape="step-after"
    )
    note = (
        f"Share of the ways back that take longer than k steps. {sum(histogram):,} ways back; "
        f"half of them take at most {half:g} steps."
    )
    numbers = points_table({"longer than k": points}, "k", "share")
    return Chart("How long it takes to come back", note, spec, numbers)
