"""What a results table says: means with intervals, paired tests, goals reached and missed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy.stats import ttest_1samp

from ste_lightning.running import sweep_table
from ste_lightning.running.intervals import Estimate, student_t
from ste_lightning.running.results.plan import Plan
from ste_lightning.running.results.rows import Row

__all__ = ["Line", "Verdict", "holm", "judged", "lines_of", "paired"]

SIGNIFICANT = 0.05
"""Level of the tests, over all comparisons of a table."""

ROUNDING = 1e-5
"""Differences that vary less do not vary: few test images give few different accuracies, and a t
test would take equal differences for certainty."""


@dataclass(frozen=True)
class Verdict:
    """A paired comparison over the seeds that both have.

    Attributes:
        difference: mean of one's values minus the other's, with its interval.
        p: two-sided p value of the paired t test, of the sign test where all differences are
            equal; None for fewer than two pairs.
    """

    difference: Estimate
    p: float | None


@dataclass(frozen=True)
class Line:
    """One setting over its finished runs.

    Attributes:
        setting: its name.
        value: mean and interval.
        twin: comparison with its twin; None without one.
        rows: of the runs.
    """

    setting: str
    value: Estimate
    twin: Verdict | None
    rows: Sequence[Row]


def paired(ours: Sequence[Row], theirs: Sequence[Row]) -> Verdict | None:
    """Compare two settings seed by seed: equal seeds share split, order and start.

    Returns:
        None where no seed is shared.
    """
    differences = sweep_table.paired(ours, theirs, "value")
    if not differences:
        return None
    p = None
    if len(differences) > 1:
        if max(differences) - min(differences) > ROUNDING:
            p = float(ttest_1samp(differences, 0.0).pvalue)
        elif max(map(abs, differences)) > ROUNDING:
            p = 2.0 ** (1 - len(differences))  # as often would chance give all of them one sign
        else:
            p = 1.0
    return Verdict(student_t(differences), p)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    r"""Return p values adjusted for the number of comparisons.

    With :math:`p_{(1)} \le \dots \le p_{(k)}`, the adjusted value of the i-th is
    :math:`\max_{j \le i} \min(1, (k - j + 1)\, p_{(j)})`.

    Source: S. Holm, A Simple Sequentially Rejective Multiple Test Procedure (1979).
    """
    adjusted, largest = {}, 0.0
    for place, name in enumerate(sorted(p_values, key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[name]))
        adjusted[name] = largest
    return adjusted


def lines_of(plan: Plan, rows: Sequence[Row]) -> list[Line]:
    """Return a line for every setting of the plan that has runs, in the plan's order."""
    by_name = {one.name: [r for r in rows if r["setting"] == one.name] for one in plan.settings}
    return [
        Line(
            one.name,
            student_t([float(row["value"]) for row in by_name[one.name]]),
            paired(by_name[one.name], by_name[one.twin]) if one.twin is not None else None,
            by_name[one.name],
        )
        for one in plan.settings
        if by_name[one.name]
    ]


def judged(plan: Plan, lines: Sequence[Line]) -> list[str]:
    """Return a sentence for every goal: reached, missed or not run."""
    named = {line.setting: line for line in lines}
    said = []
    for goal in plan.goals:
        line = named.get(goal.setting)
        if goal.at_least is not None:
            mean = None if line is None else line.value.mean
            good = mean is not None and mean >= goal.at_least
            said.append(
                _judgement(plan, goal.setting, f"at least {goal.at_least}", line, mean, good)
            )
        if goal.within is not None:
            below = None if line is None or line.twin is None else -line.twin.difference.mean
            good = below is not None and below <= goal.within
            wanted = f"at most {goal.within} below its twin"
            said.append(_judgement(plan, goal.setting, wanted, line, below, good))
    return said


def _judgement(
    plan: Plan, setting: str, wanted: str, line: Line | None, reached: float | None, good: bool
) -> str:
    if line is None or reached is None:
        return f"{setting}: {wanted}: not run"
    runs = f"{line.value.runs} of {len(plan.seeds)} seeds"
    return f"{setting}: {wanted}: {'reached' if good else '**missed**'} ({reached:.4f}, {runs})"
