"""The page of a sweep: its settings side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ste_lightning.reports.html import charts
from ste_lightning.reports.html.page import Chart, Fact, Page, Part, Section, Table, number

__all__ = ["sweep_page"]

_METRICS = 3  # drawn one by one; the table has all

Row = Mapping[str, Any]


def sweep_page(
    name: str,
    rows: Sequence[Row],
    varied: Sequence[str],
    metrics: Sequence[str],
    estimates: Sequence[Row],
    table: Sequence[Row],
    failed: Mapping[str, str],
    foot: str,
) -> Page:
    """Return the page.

    Args:
        name: of the sweep.
        rows: a mapping per run with what was varied, ``setting``, and its metrics.
        varied: names of what was varied.
        metrics: what the recipe reports, the first being the most important.
        estimates: a row per metric and setting: ``metric``, ``name``, ``mean``, ``low``, ``high``.
        table: the table of settings, as people read it.
        failed: folder -> what stopped the run.
        foot: versions.
    """
    found = {metric: {row[metric] for row in rows if metric in row} for metric in metrics}
    shown = [m for m, values in found.items() if values]
    # what all runs have in common, as the number of trials, is in the table alone
    shown = [m for m in shown if len(found[m]) > 1] or shown
    sections = [
        Section("Result", _result(rows, shown, estimates, failed)),
        Section("Comparison", [_forest(metric, rows, estimates) for metric in shown[:_METRICS]]),
        Section("All runs", _parallel(rows, varied, shown)),
        Section("Table", [_table(table)] if table else []),
        Section("Without results", _failed(failed)),
    ]
    settings = sorted({str(row["setting"]) for row in rows})
    lead = f"A sweep over {', '.join(varied) or 'nothing'}: {len(settings)} settings."
    return Page(name, lead, sections, foot)


def _result(
    rows: Sequence[Row], metrics: Sequence[str], estimates: Sequence[Row], failed: Mapping[str, str]
) -> list[Part]:
    parts: list[Part] = [
        Fact("runs", str(len(rows)), f"{len(failed)} without results" if failed else "")
    ]
    for metric in metrics[:_METRICS]:
        found = [row for row in estimates if row["metric"] == metric]
        # Which direction is better the name tells, as in loss and error; else more is.
        less = any(word in metric for word in ("loss", "error", "seconds", "hamming"))
        best = min(found, key=lambda row: row["mean"] if less else -row["mean"])
        word = "lowest" if less else "highest"
        parts.append(Fact(f"{word} {metric}", number(best["mean"]), best["name"]))
    return parts


def _forest(metric: str, rows: Sequence[Row], estimates: Sequence[Row]) -> Chart:
    found = [row for row in estimates if row["metric"] == metric]
    singles = [{"name": row["setting"], "value": row[metric]} for row in rows if metric in row]
    cells = [
        [
            row["name"],
            number(row["mean"]),
            *(number(row[k]) if k in row else "" for k in ("low", "high")),
        ]
        for row in found
    ]
    note = "Diamonds are means, lines 95 % intervals over seeds, circles single runs."
    if not any("low" in row for row in found):
        note = "One run each; several seeds (seed=0,1,2) would show intervals."
    spec = charts.forest(found, metric, singles)
    numbers = Table(metric, ["setting", "mean", "low", "high"], cells)
    return Chart(metric, note, spec, numbers, wide=len(found) > 12)


def _parallel(rows: Sequence[Row], varied: Sequence[str], metrics: Sequence[str]) -> list[Part]:
    axes = [key for key in varied if key != "seed"] + list(metrics[:_METRICS])
    if len(rows) < 2 or len(axes) < 2 or not metrics:
        return []
    note = f"One line for each run, from its settings to its results; colour is {metrics[0]}."
    names = list(dict.fromkeys((*varied, *metrics)))
    cells = [[number(row.get(name, "")) for name in names] for row in rows]
    numbers = Table("All runs", names, cells)
    return [
        Chart("Parallel coordinates", note, charts.parallel(rows, axes, metrics[0]), numbers, True)
    ]


def _table(table: Sequence[Row]) -> Table:
    head = list(table[0])
    caption = "Means with 95 % intervals over seeds; differences are taken seed by seed"
    return Table(caption, head, [[number(row.get(name, "")) for name in head] for row in table])


def _failed(failed: Mapping[str, str]) -> list[Part]:
    if not failed:
        return []
    rows = [[path, said or "it was stopped"] for path, said in failed.items()]
    return [Table("Runs without results", ["folder", "why"], rows)]
