"""Cells on disk: one Parquet file each, written whole or not at all, with its provenance."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ste_lightning.errors import ConfigurationError
from ste_lightning.io.whole_file import written_whole

__all__ = ["Columns", "read", "write"]

Columns = dict[str, list[Any]]
"""Column name -> one entry per row; an entry may itself be a list."""


def _arrow(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigurationError(
            "studies store their results with pyarrow, which is not installed: "
            "pip install 'ste-lightning[study]'."
        ) from error


def write(path: Path, columns: Columns, provenance: Mapping[str, Any]) -> None:
    """Write a table and where it comes from, atomically.

    Args:
        path: the file, ``.parquet``.
        columns: its columns.
        provenance: plain data, stored as JSON under the file's metadata key ``provenance``.
    """
    table = _arrow("pyarrow").table(columns)
    table = table.replace_schema_metadata({"provenance": json.dumps(dict(provenance))})
    with written_whole(path) as part:
        _arrow("pyarrow.parquet").write_table(table, part, compression="zstd")


def read(path: Path) -> tuple[Columns, dict[str, Any]]:
    """Return a file's columns and provenance.

    Raises:
        ConfigurationError: if the file is not one of ours.
    """
    parquet = _arrow("pyarrow.parquet")
    try:
        table = parquet.read_table(path)
        provenance = json.loads(table.schema.metadata[b"provenance"])
        columns: Columns = table.to_pydict()
    except (FileNotFoundError, PermissionError):
        raise
    except Exception as error:  # Arrow's readers raise a dozen classes for damaged files
        raise ConfigurationError(
            f"{path} is not a readable result of a study: delete it, and it is made again."
        ) from error
    return columns, provenance


def join(results: Sequence[tuple[Mapping[str, Any], Columns]]) -> Columns:
    """Return one table of all cells: their settings as columns, then their own columns."""
    settings = list(dict.fromkeys(key for cell, _ in results for key in cell))
    own = list(dict.fromkeys(key for _, columns in results for key in columns))
    joined: Columns = {key: [] for key in (*settings, *own)}
    for cell, columns in results:
        rows = len(next(iter(columns.values())))
        for key in settings:
            value = cell.get(key)
            plain = json.dumps(value) if isinstance(value, (dict, list)) else value
            joined[key] += [plain] * rows
        for key in own:
            joined[key] += columns.get(key, [None] * rows)
    return {
        key: [None if v is None else str(v) for v in values] if _mixed(values) else values
        for key, values in joined.items()
    }


def _mixed(values: Sequence[Any]) -> bool:
    """Return whether a column holds text in some rows and numbers in others."""
    kinds = {isinstance(value, str) for value in values if value is not None}
    return len(kinds) > 1
