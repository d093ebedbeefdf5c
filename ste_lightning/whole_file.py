"""Files that appear whole or not at all."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ste_lightning.errors import ConfigurationError, require

__all__ = ["written_whole"]


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """Yield a path beside ``path`` to write to; it takes its place when the block has succeeded.

    The file has the permissions that ``open`` would give it.

    Args:
        path: the file to make or to replace; its folder is made too.

    Raises:
        ConfigurationError: where nothing can be written, with the reason.
    """
    target = Path(path)
    require(not target.is_dir() and str(path) != "", "out", str(path), "name a file, not a folder")
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch(exist_ok=False)  # not by tempfile, whose files only their owner may read
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}.") from error
    try:
        yield temporary
        temporary.replace(target)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}.") from error
    finally:
        temporary.unlink(missing_ok=True)
