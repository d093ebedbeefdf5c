"""Where machine code is kept between processes, so that it is never older than its sources.

numba decides whether kept code is still valid by the one file that the entry point is in; what
that function calls is compiled into it from many. Here the folder's name is a hash of all of them.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding as llvm
import numba
from numba.core.compiler_lock import global_compiler_lock
from numba.misc.appdirs import AppDirs

__all__ = ["kept_between_processes"]

_logger = logging.getLogger("ste_lightning")

_KERNELS = next(p for p in Path(__file__).resolve().parents if p.name == "kernels")
_KEPT_VERSIONS = 3  # of the sources, per machine and place: branches are switched back and forth


@contextlib.contextmanager
def kept_between_processes(function: Callable[..., Any]) -> Iterator[bool]:
    """Let numba cache ``function``, decorated inside the block, in the folder of its sources.

    Yields whether there is such a folder. Where nobody may write (a read-only installation and no
    home folder), every process compiles anew instead of failing.
    """
    file = Path(function.__code__.co_filename).resolve()
    folder = _folder(_room(file)) if file.exists() else None
    if folder is None:
        yield False
        return
    # numba reads this setting when it decorates; its own lock keeps other threads out meanwhile.
    config: Any = numba.config
    with global_compiler_lock:
        before, config.CACHE_DIR = config.CACHE_DIR, str(folder)
        try:
            yield True
        finally:
            config.CACHE_DIR = before


def _room(file: Path) -> Path:
    """Return the folder whose compiled functions call one another: all kernels are one room."""
    return _KERNELS if file.is_relative_to(_KERNELS) else file.parent


@functools.cache
def _folder(room: Path) -> Path | None:
    """Return the folder for code of ``room``; ``None`` where none can be written."""
    config: Any = numba.config
    folders: Any = AppDirs
    homes = [
        Path(config.CACHE_DIR) if config.CACHE_DIR else None,
        room / "__pycache__",
        Path(folders(appname="numba", appauthor=False).user_cache_dir),
    ]
    for home in homes:
        if home is None:
            continue
        versions = home / "ste_lightning" / _hash([str(room), *_machine()])
        folder = versions / _hash(_sources(room))
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
            os.utime(folder)
        except OSError:
            continue
        _remove_old(versions)
        if not any(folder.iterdir()):
            _logger.warning(  # the level that commands show
                "compiling machine code for this processor while it is called: seconds, once; "
                "it is kept in %s",
                folder,
            )
        return folder
    return None


def _machine() -> list[str]:
    """Return what machine code depends on besides its sources."""
    config: Any = numba.config
    return [
        numba.__version__,
        llvmlite.__version__,
        llvm.get_host_cpu_name(),
        llvm.get_host_cpu_features().flatten(),
        *(str(getattr(config, name, None)) for name in ("CPU_NAME", "CPU_FEATURES", "ENABLE_AVX")),
    ]


def _sources(room: Path) -> Iterator[str]:
    """Yield names and content of the kernels' files and of the room's."""
    for file in sorted({*_KERNELS.rglob("*.py"), *room.glob("*.py")}):
        yield file.name
        yield file.read_text(encoding="utf-8")


def _hash(texts: Iterator[str] | list[str]) -> str:
    digest = hashlib.sha256()
    for text in texts:
        digest.update(hashlib.sha256(text.encode()).digest())
    return digest.hexdigest()[:16]


def _remove_old(versions: Path) -> None:
    """Keep the code of the last few versions of the sources."""
    with contextlib.suppress(OSError):  # another process does the same
        used = sorted(versions.iterdir(), key=lambda folder: folder.stat().st_mtime)
        for folder in used[:-_KEPT_VERSIONS]:
            shutil.rmtree(folder, ignore_errors=True)
