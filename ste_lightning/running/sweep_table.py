"""A sweep's table: settings side by side over their seeds, as CSV, Markdown and LaTeX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ste_lightning.errors import ConfigurationError, unknown
from ste_lightning.running.intervals import CONFIDENCE, INTERVALS, Estimate
from ste_lightning.running.report import short
from ste_lightning.running.sweep_rows import SEED, Row

__all__ = ["Line", "flat", "latex", "lines", "markdown", "markdown_rows", "paired", "shown"]


@dataclass(frozen=True)
class Line:
    """One setting of a sweep over its runs.

    Attributes:
        settings: what was swept, without the seed.
        runs: how many runs there are.
        values: metric -> mean over the runs.
        differences: metric -> mean difference to the baseline over seeds that both have; empty
            for the baseline itself, and where no seed is shared.
    """

    settings: Mapping[str, Any]
    runs: int
    values: Mapping[str, Estimate]
    differences: Mapping[str, Estimate]


def lines(
    rows: Sequence[Row],
    varied: Sequence[str],
    metrics: Sequence[str],
    baseline: Mapping[str, Any] | None = None,
    interval: str = "t",
) -> list[Line]:
    """Average over seeds, and compare every setting with the baseline, seed by seed.

    Equal seeds share split, order and start, so their differences vary less than the runs do.

    Args:
        rows: of the finished runs.
        varied: the settings that differ between runs.
        metrics: which to show.
        baseline: the setting to compare with, as far as it has to be told from others:
            ``{"quantizer": "float"}``. None: the first.
        interval: ``t`` or ``bootstrap``.

    Raises:
        ConfigurationError: for another interval, or a baseline that is none of the settings.
    """
    if interval not in INTERVALS:
        raise unknown("sweep.interval", interval, INTERVALS)
    estimate = INTERVALS[interval]
    settings = [key for key in varied if key != SEED]
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row.get(key, "") for key in settings), []).append(row)
    named = {group: dict(zip(settings, group, strict=True)) for group in groups}
    base = _baseline(named, baseline)
    table = []
    for group, members in groups.items():
        values, differences = {}, {}
        for metric in (*metrics, "seconds"):
            own = [float(row[metric]) for row in members if metric in row]
            if own:
                values[metric] = estimate(own)
            beside = paired(members, groups[base], metric) if group != base else []
            if beside and metric != "seconds":
                differences[metric] = estimate(beside)
        table.append(Line(named[group], len(members), values, differences))
    return table


def _baseline(
    named: Mapping[tuple[Any, ...], Mapping[str, Any]], wanted: Mapping[str, Any] | None
) -> tuple[Any, ...]:
    for group, settings in named.items():
        if all(str(settings.get(key, "")) == str(v) for key, v in (wanted or {}).items()):
            return group
    known = "; ".join(", ".join(f"{k}={v}" for k, v in s.items()) for s in named.values())
    raise ConfigurationError(
        f"sweep.baseline={dict(wanted or {})!r} cannot be used: no finished run has it. The sweep "
        f"has {known}."
    )


def paired(members: Sequence[Row], base: Sequence[Row], metric: str) -> list[float]:
    """Return the differences of a metric to the baseline's, for every seed that both have."""
    by_seed = {row.get(SEED): float(row[metric]) for row in base if metric in row}
    return [
        float(row[metric]) - by_seed[row.get(SEED)]
        for row in members
        if metric in row and row.get(SEED) in by_seed
    ]


def flat(table: Sequence[Line]) -> list[Row]:
    """Return the table's numbers, a column each: ``NAME``, ``NAME low``, ``NAME difference``..."""
    rows: list[Row] = []
    for line in table:
        row: Row = {**line.settings, "runs": line.runs}
        for metric, value in line.values.items():
            row |= _columns(metric, value)
        for metric, value in line.differences.items():
            row |= {f"{metric} pairs": value.runs} | _columns(f"{metric} difference", value)
        rows.append(row)
    return rows


def _columns(name: str, value: Estimate) -> Row:
    ends = {"low": value.low, "high": value.high}
    return {name: value.mean} | {f"{name} {k}": v for k, v in ends.items() if v is not None}


def shown(table: Sequence[Line]) -> list[Row]:
    """Return the table as people read it: ``mean [low, high]``, and differences where there are."""
    rows: list[Row] = []
    differ = {m for line in table for m, v in line.differences.items() if v.runs > 1 or v.mean != 0}
    for line in table:
        row: Row = dict(line.settings)
        if any(one.runs > 1 for one in table):
            row["runs"] = line.runs
        for metric, value in line.values.items():
            row[metric] = short(value.mean) if metric == "seconds" else str(value)
            if metric in line.differences.keys() & differ:
                row[f"{metric} - baseline"] = str(line.differences[metric])
        rows.append(row)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    order = sorted(columns, key=lambda column: _place(column, columns))
    return [{column: row.get(column, "") for column in order} for row in rows]


def _place(column: str, columns: Sequence[str]) -> tuple[int, int]:
    """Differences stand beside their metric although the baseline, often first, has none."""
    metric = column.removesuffix(" - baseline")
    return (columns.index(metric), int(metric != column))


def markdown_rows(rows: Sequence[Row]) -> str:
    """Return rows of equal columns as a table of Markdown."""
    head = list(rows[0])
    body = [[str(row[column]) for column in head] for row in rows]
    cells = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(c.replace("|", "\\|") for c in row) + " |" for row in cells)


def markdown(table: Sequence[Line]) -> str:
    """Return the table for Markdown."""
    text = markdown_rows(shown(table))
    return f"{text}\n\nMeans with {CONFIDENCE:.0%} intervals over seeds.\n"


_LATEX = str.maketrans(
    {
        "&": r"\&",
        "%": r"\%",
        "$": r"\$",
        "#": r"\#",
        "_": r"\_",
        "{": r"\{",
        "}": r"\}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "\\": r"\textbackslash{}",
    }
)


def latex(table: Sequence[Line]) -> str:
    """Return the table for LaTeX with the package booktabs."""
    rows = shown(table)
    head = list(rows[0])
    body = [" & ".join(str(row[column]).translate(_LATEX) for column in head) for row in rows]
    text = len(table[0].settings)
    lines_of = [
        rf"\begin{{tabular}}{{{'l' * text}{'r' * (len(head) - text)}}}",
        r"\toprule",
        " & ".join(column.translate(_LATEX) for column in head) + r" \\",
        r"\midrule",
        *(rf"{row} \\" for row in body),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines_of) + "\n"
