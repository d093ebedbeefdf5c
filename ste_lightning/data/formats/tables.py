"""Tables: csv with a line of names, and parquet."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ste_lightning.errors import ConfigurationError

__all__ = ["Column", "read_table"]

# numbers as float64 with nan for what is missing, or text with "" for it
Column = NDArray[np.float64] | NDArray[np.str_]
_MISSING = {"", "na", "n/a", "nan", "null", "none", "?"}


def read_table(path: str | Path) -> dict[str, Column]:
    """Read a table.

    A column is numeric if all its cells are numbers or missing (empty, NA, nan, null, none, ?).

    Args:
        path: ends in ``.csv`` (comma, semicolon or tab between cells, names in the first line) or
            ``.parquet``.

    Returns:
        Name -> column, all of one length.

    Raises:
        ConfigurationError: for a file that is missing or broken, rows of different lengths, names
            that occur twice, and parquet without pyarrow.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigurationError(
            f"path={str(path)!r} cannot be used: there is no such file. Put the table there, as "
            ".csv with names in its first line, or as .parquet."
        )
    columns = _parquet(path) if path.suffix == ".parquet" else _csv(path)
    if not columns or not len(next(iter(columns.values()))):
        raise ConfigurationError(f"{path} has no rows.")
    return {name: _typed(cells) for name, cells in columns.items()}


def _csv(path: Path) -> dict[str, list[str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            file.seek(0)
            between = max(",;\t", key=first.count)
            rows = [row for row in csv.reader(file, delimiter=between) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}.") from error
    if not rows:
        return {}
    names = [name.strip() for name in rows[0]]
    if len(set(names)) < len(names):
        raise ConfigurationError(f"{path} names a column twice: {', '.join(names)}.")
    for number, row in enumerate(rows[1:], 2):
        if len(row) != len(names):
            raise ConfigurationError(
                f"{path}: row {number} has {len(row)} cells, the first one names {len(names)}."
            )
    return {name: [row[i].strip() for row in rows[1:]] for i, name in enumerate(names)}


def _parquet(path: Path) -> dict[str, list[Any]]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise ConfigurationError(
            "parquet needs pyarrow: pip install 'ste-lightning[study]'."
        ) from error
    try:
        columns: dict[str, list[Any]] = parquet.read_table(path).to_pydict()
    except (ArrowException, OSError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}.") from error
    return columns


def _typed(cells: list[Any]) -> Column:
    texts = ["" if cell is None else str(cell) for cell in cells]
    texts = ["" if text.lower() in _MISSING else text for text in texts]
    try:
        return np.array([float(text) if text else np.nan for text in texts])
    except ValueError:
        return np.array(texts)
