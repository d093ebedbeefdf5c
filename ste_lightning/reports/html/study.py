"""The page of a study of the theory: phase diagrams, traces, survival of return times."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ste_lightning.reports.html import charts
from ste_lightning.reports.html.page import (
    Chart,
    Fact,
    Gallery,
    Page,
    Part,
    Picture,
    Section,
    Table,
    number,
)
from ste_lightning.reports.html.visits import survival
from ste_lightning.theory import statistics
from ste_lightning.theory.studies.cells import label
from ste_lightning.theory.studies.runner import Result
from ste_lightning.theory.studies.tables import Threshold, thresholds, varied

__all__ = ["study_page"]

_GROUPS, _CELLS, _PICTURE = 6, 6, 2**20  # most diagrams, cells traced, bytes of a figure
_STEPS = 150  # of a trace: more are no longer told apart


def study_page(
    name: str, about: str, results: Sequence[Result], rows: Sequence[Mapping[str, Any]],
    figure: Path, foot: str,
) -> Page:  # fmt: skip
    """Return the page.

    Args:
        name, about: of the study.
        results: its cells.
        rows: of its table.
        figure: where its picture is, if there is one.
        foot: versions.
    """
    table = []
    if rows:
        head = list(dict.fromkeys(key for row in rows for key in row))
        cells = [[number(row.get(key, "")) for key in head] for row in rows]
        table = [Table("The study's table", head, cells)]
    sections = [
        Section("Size", _size(results)),
        Section("Who recovers the teacher", _phases(results)),
        Section("Leaving the teacher and coming back", [*_traces(results), *_returns(results)]),
        Section("Table", table),
        Section("Figure", _figure(figure)),
    ]
    return Page(name, about or "A study of the theory.", sections, foot)


def _size(results: Sequence[Result]) -> list[Part]:
    trials = sum(len(next(iter(result.columns.values()))) for result in results)
    seconds = sum(result.seconds for result in results)
    return [
        Fact("cells", f"{len(results):,}", f"varied: {', '.join(varied(results)) or 'nothing'}"),
        Fact("trials", f"{trials:,}"),
        Fact("time", f"{seconds:,.0f} s", "of one core"),
    ]


def _phases(results: Sequence[Result]) -> list[Part]:
    """Draw recovery over n and N, for every group of settings."""
    told = all({"last", "ergodic"} <= result.columns.keys() for result in results)
    if not told or len({result.settings["samples"] for result in results}) < 2:
        return []
    groups: dict[str, list[Threshold]] = {}
    for one in thresholds(results):
        title = ", ".join(f"{key} {value}" for key, value in one.group.items()) or "all cells"
        groups.setdefault(title, []).append(one)
    few = dict(list(groups.items())[:_GROUPS])
    if len({result.settings["n"] for result in results}) == 1:
        return _over_samples({title: found[0] for title, found in few.items()})
    trials = len(results[0].columns["last"])
    return [_phase(title, found, trials) for title, found in few.items()]


def _over_samples(found: Mapping[str, Threshold]) -> list[Part]:
    """Draw recovery over N where all cells have one n."""
    parts: list[Part] = []
    for which, name in (("last", "Last iterate"), ("ergodic", "Averaged iterate")):
        lines = {
            title: list(zip(map(float, one.samples), getattr(one, which), strict=True))
            for title, one in found.items()
        }
        spec = charts.lines(lines, "N, samples", "recovered", "cells", log_x=True, zero=True)
        cells = [
            [title, number(samples), f"{share:.3f}"]
            for title, points in lines.items()
            for samples, share in points
        ]
        table = Table(name, ["cells", "N", "recovered"], cells)
        parts.append(Chart(name, "Share of the students at the teacher.", spec, table))
    return parts


def _phase(title: str, found: Sequence[Threshold], trials: int) -> Chart:
    cells, numbers = [], []
    for one in found:
        for samples, last, ergodic in zip(one.samples, one.last, one.ergodic, strict=True):
            low, high = (float(end) for end in statistics.wilson(round(last * trials), trials))
            text = f"{low:.0%} to {high:.0%}; averaged {ergodic:.0%}"
            cells.append((one.n, float(samples), last, text))
            numbers.append([str(one.n), str(samples), f"{last:.3f}", f"{ergodic:.3f}"])
    curves = {
        name: [
            (float(one.n), getattr(one, which).value)
            for one in found
            if not math.isnan(getattr(one, which).value)
        ]
        for name, which in (("half, last iterate", "n50_last"), ("half, averaged", "n50_ergodic"))
    }
    spec = charts.phases(cells, curves, "n, inputs", "N, samples", "recovered")
    note = (
        "Colour: share of the students whose last iterate is the teacher. Lines: samples at which "
        "half of the students recover."
    )
    table = Table(title, ["n", "N", "last", "averaged"], numbers)
    return Chart(title, note, spec, table)


def _named(result: Result, keys: Sequence[str]) -> str:
    return ", ".join(f"{key} {label(result.settings.get(key))}" for key in keys) or "cell"


def _spread(results: Sequence[Result]) -> list[Result]:
    stride = max(1, -(-len(results) // _CELLS))
    return list(results[::stride])


def _traces(results: Sequence[Result]) -> list[Part]:
    traced = [r for r in results if "hamming" in r.columns and len(r.columns["hamming"][0]) > 2]
    keys, parts = varied(results), []
    for result in _spread(traced):
        lines = {f"trial {i + 1}": list(enumerate(map(float, trace[-_STEPS:])))
                 for i, trace in enumerate(result.columns["hamming"][:2])}  # fmt: skip
        spec = charts.lines(lines, "step", "wrong signs", "trial", zero=True, shape="step-after")
        note = "Wrong signs in the last steps of two trials; 0: at the teacher."
        parts.append(Chart(_named(result, keys), note, spec))
    return list(parts)


def _returns(results: Sequence[Result]) -> list[Part]:
    """Draw the survival of return times, one line for each of a few cells."""
    found = {}
    keys = varied(results)
    told = [r for r in results if "return_histogram" in r.columns]
    for result in _spread(told):
        counts = [sum(column) for column in zip(*result.columns["return_histogram"], strict=True)]
        if sum(counts):
            found[_named(result, keys)] = counts
    if not found:
        return []
    lines = {name: survival(counts) for name, counts in found.items()}
    spec = charts.lines(lines, "k, steps", "share", "cell", log_y=True, shape="step-after")
    note = "Share of the ways back to the teacher that take longer than k steps."
    return [Chart("How long it takes to come back", note, spec, wide=True)]


def _figure(path: Path) -> list[Part]:
    if not path.is_file() or path.stat().st_size > _PICTURE:
        return []
    source = f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
    return [Gallery([Picture(source, "The figure that the study draws (figure.png).", 1100)])]
