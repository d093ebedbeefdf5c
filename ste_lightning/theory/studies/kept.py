"""Results of a study in one Parquet file, a row per cell: what the page of claims is made from."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ste_lightning.theory.studies import store
from ste_lightning.theory.studies.cells import Cell
from ste_lightning.theory.studies.runner import Result

__all__ = ["Kept", "keep", "read_kept"]

_FOR_FIGURES = {"hamming", "return_histogram"}  # most of the bytes, and no claim is about them


@dataclasses.dataclass(frozen=True)
class Kept:
    """What one file holds.

    Attributes:
        results: the cells.
        about: ``command``, and when, where and with what the first cell was computed.
    """

    results: list[Result]
    about: Mapping[str, Any]

    @property
    def seconds(self) -> float:
        """Time that all cells took together, in seconds of one core."""
        return sum(result.seconds for result in self.results)


def keep(cells: Sequence[Cell], folder: Path, out: Path, command: str) -> None:
    """Write the cells of a study that has run into one file.

    Args:
        cells: of the study.
        folder: of the study.
        out: the file, ``.parquet``.
        command: that repeats it.
    """
    read = [store.read(folder / "cells" / f"{cell.key}.parquet") for cell in cells]
    names = dict.fromkeys(n for columns, _ in read for n in columns if n not in _FOR_FIGURES)
    table: store.Columns = {
        "settings": [json.dumps(dict(cell.settings), sort_keys=True) for cell in cells],
        "provenance": [json.dumps(provenance, sort_keys=True) for _, provenance in read],
        **{name: [columns.get(name) for columns, _ in read] for name in names},
    }
    first = read[0][1]
    about = {name: first[name] for name in ("created", "machine", "versions", "numbers")}
    store.write(out, table, {"command": command, **about})


def read_kept(path: Path) -> Kept:
    """Read such a file.

    Raises:
        ConfigurationError: if it is not one.
    """
    table, about = store.read(path)
    settings, provenance = (
        [json.loads(text) for text in table.pop(name, [])] for name in ("settings", "provenance")
    )
    results = []
    for i, (setting, origin) in enumerate(zip(settings, provenance, strict=True)):
        columns = {name: column[i] for name, column in table.items() if column[i] is not None}
        results.append(Result(setting, columns, float(origin["seconds"])))
    return Kept(results, about)
