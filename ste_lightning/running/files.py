"""Writing and reading a run's files: whole or not at all."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ste_lightning.whole_file import written_whole

__all__ = [
    "REFUSAL",
    "RESULTS",
    "discard",
    "history",
    "is_fresh",
    "write_csv",
    "write_json",
    "write_text",
]

RESULTS = "results.json"
"""A run's final numbers; a run without this file has not finished."""

REFUSAL = "error.txt"
"""Why a run of a sweep was refused."""


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` so that a reader sees the old file or the new one, never half."""
    with written_whole(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a mapping as indented JSON, atomically."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as CSV, atomically; columns in order of first appearance."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [",".join(map(_cell, columns))]
    lines += [",".join(_cell(row.get(column, "")) for column in columns) for row in rows]
    write_text(path, "\n".join(lines) + "\n")


def _cell(value: object) -> str:
    text = str(value)
    return '"' + text.replace('"', '""') + '"' if any(mark in text for mark in ',"\n') else text


def history(path: Path) -> list[dict[str, float]]:
    """Read a metrics.csv: one dict per logged row, without its empty cells."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [
            {key: float(cell) for key, cell in row.items() if cell not in ("", None)}
            for row in csv.DictReader(file)
        ]


def is_fresh(folder: Path, ours: Iterable[str] = (".hydra",)) -> bool:
    """Return whether ``folder`` holds nothing yet but what Hydra writes before a run starts."""
    return all(entry.name in ours or entry.suffix == ".log" for entry in folder.iterdir())


def discard(folder: Path) -> None:
    """Remove the folder of a run that was refused, and the parents that it leaves empty."""
    shutil.rmtree(folder, ignore_errors=True)
    for parent in list(folder.parents)[:2]:
        try:
            parent.rmdir()
        except OSError:  # not empty: other runs live there
            break
