"""Arrays in files: npy, npz and csv."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ste_lightning.errors import ConfigurationError, require

__all__ = ["FILES", "arrays_in"]

FILES = (".npy", ".npz", ".csv")


def arrays_in(path: Path, wanted: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Return the arrays of a file by name.

    Args:
        path: of a npy, npz or csv file.
        wanted: which arrays of an archive to read; where it has none of them, its first.

    Raises:
        ConfigurationError: for a file that cannot be read.
    """
    try:
        return _read(path, wanted)
    except (ConfigurationError, PermissionError):
        raise
    except Exception as error:  # of numpy, zip, zlib and a tokenizer, for damaged files
        # numpy proposes here to unpickle them, which runs what they contain
        holds = "it holds Python objects, not numbers" if "pickle" in str(error) else error
        raise ConfigurationError(f"input={str(path)!r} cannot be read: {holds}.") from error


def _read(path: Path, wanted: Sequence[str]) -> dict[str, NDArray[Any]]:
    suffix = path.suffix.lower()
    if suffix == ".csv":
        if not path.read_bytes().strip():
            raise ValueError("it is empty")
        text = np.genfromtxt(path, delimiter=",", dtype=np.float64, ndmin=2)
        # A line of column names is read as one of no numbers.
        return {"": text[1:] if len(text) and bool(np.isnan(text[0]).all()) else text}
    if suffix == ".npy":
        return {"": np.load(path, allow_pickle=False, mmap_mode="r")}
    with path.open("rb") as file:  # closed too where the archive turns out to be damaged
        loaded = np.load(file, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"": loaded}
        require(len(loaded.files) >= 1, "input", str(path), "the archive is empty")
        names = [name for name in wanted if name in loaded] or loaded.files[:1]
        return {name: loaded[name] for name in names}
