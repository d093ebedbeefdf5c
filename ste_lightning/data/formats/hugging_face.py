"""Folders of Hugging Face's ``datasets``: what ``save_to_disk`` writes, and parquet of the hub.

Only pyarrow is needed, and nothing of a folder is executed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ste_lightning.errors import ConfigurationError

__all__ = ["class_names", "read_split"]


def read_split(root: str | Path, split: str) -> tuple[Any, Mapping[str, Any]]:
    """Read one split.

    Args:
        root: a folder that ``DatasetDict.save_to_disk`` wrote (``SPLIT/*.arrow``), or one with
            ``SPLIT-*.parquet``, itself or under ``data`` or ``SPLIT``.
        split: its name, such as ``train``.

    Returns:
        The pyarrow table, and the features as ``datasets`` describes them; empty if unknown.

    Raises:
        ConfigurationError: without pyarrow, without files of that split, and for broken ones.
    """
    try:
        import pyarrow
        from pyarrow import ipc, parquet
    except ImportError as error:
        raise ConfigurationError(
            "folders of datasets need pyarrow: pip install 'ste-lightning[study]'."
        ) from error
    root = Path(root)
    arrows = sorted((root / split).glob("*.arrow"))
    tables = [
        *sorted(root.glob(f"{split}-*.parquet")),
        *sorted((root / "data").glob(f"{split}-*.parquet")),
        *sorted((root / split).glob("*.parquet")),
    ]
    if not arrows and not tables:
        raise ConfigurationError(
            f"root={str(root)!r} cannot be used: it has no split {split!r}. Write it by "
            f"datasets' save_to_disk (files {root}/{split}/*.arrow), or put the hub's files there, "
            f"{root}/data/{split}-00000-of-00001.parquet."
        )
    try:
        if arrows:
            parts = [ipc.open_stream(pyarrow.memory_map(str(path))).read_all() for path in arrows]
        else:
            parts = [parquet.read_table(path) for path in tables]
        table = pyarrow.concat_tables(parts)
    except (pyarrow.ArrowException, OSError) as error:
        raise ConfigurationError(f"{(arrows or tables)[0]} cannot be read: {error}.") from error
    return table, _features(root / split / "dataset_info.json", table)


def _features(path: Path, table: Any) -> Mapping[str, Any]:
    try:
        if path.is_file():
            found = json.loads(path.read_text("utf-8")).get("features")
        else:
            about = (table.schema.metadata or {}).get(b"huggingface", b"{}")
            found = json.loads(about).get("info", {}).get("features")
    except (ValueError, AttributeError) as error:
        raise ConfigurationError(f"{path} does not describe a data set: {error}.") from error
    return found if isinstance(found, Mapping) else {}


def class_names(features: Mapping[str, Any], label: str, largest: int) -> tuple[str, ...]:
    """Return the names that a label's feature has, or numbers up to the largest label."""
    named = features.get(label, {})
    names = named.get("names") if isinstance(named, Mapping) else None
    if isinstance(names, list) and len(names) > largest:
        return tuple(map(str, names))
    return tuple(map(str, range(largest + 1)))
