"""Files that appear whole or not at all."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ste_lightning.errors import ConfigurationError, require

__all__ = ["write_csv", "write_json", "write_text", "written_together", "written_whole"]


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """Yield a path beside ``path`` to write to; it takes its place when the block has succeeded.

    The file has the permissions that ``open`` would give it.

    Args:
        path: the file to make or to replace; its folder is made too.

    Raises:
        ConfigurationError: where nothing can be written, with the reason.
    """
    target, temporary = _beside(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch(exist_ok=False)  # not by tempfile, whose files only their owner may read
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}.") from error
    try:
        yield temporary
        _to_disk(temporary)
        temporary.replace(target)
        _to_disk(target.parent)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}.") from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def written_together(path: str | Path) -> Iterator[Path]:
    """Yield ``path`` in a folder of its own; the files in there are moved once the block succeeds.

    Args:
        path: the file to make or to replace; others beside it may be made with it.

    Raises:
        ConfigurationError: where nothing can be written, with the reason.
    """
    target, folder = _beside(path)
    try:
        folder.mkdir(parents=True)
        yield folder / target.name
        files = sorted(folder.iterdir())
        for file in files:
            _to_disk(file)
        for file in files:
            file.replace(target.with_name(file.name))
        _to_disk(target.parent)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}.") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _beside(path: str | Path) -> tuple[Path, Path]:
    """Return a path and a hidden one beside it."""
    target = Path(path)
    require(not target.is_dir() and str(path) != "", "out", str(path), "name a file, not a folder")
    return target, target.with_name(f".{target.name}.{secrets.token_hex(4)}")


def _to_disk(path: Path) -> None:
    """Wait until a file's content, or a folder's entries, would survive a power failure."""
    if not path.is_dir():
        with path.open("r+b") as file:
            os.fsync(file.fileno())
    elif os.name != "nt":  # Windows opens no folders
        handle = os.open(path, os.O_RDONLY)
        with suppress(OSError):  # some file systems cannot
            os.fsync(handle)
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` so that a reader sees the old file or the new one, never half."""
    with written_whole(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a mapping as indented JSON, whole or not at all."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as CSV, whole or not at all; columns in order of first appearance."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [",".join(map(_cell, columns))]
    lines += [",".join(_cell(row.get(column, "")) for column in columns) for row in rows]
    write_text(path, "\n".join(lines) + "\n")


def _cell(value: object) -> str:
    text = str(value)
    return '"' + text.replace('"', '""') + '"' if any(mark in text for mark in ',"\n') else text
