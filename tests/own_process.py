"""A fresh pytest for one test, forked from a process that has imported torch already."""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
from pathlib import Path

import pytest

__all__ = ["run_alone"]

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["ste_lightning.callbacks", "ste_lightning.train", "torchmetrics"])
_WORDS = ["-q", "-p", "no:xdist", "-p", "no:cacheprovider", "-o", "addopts="]
# pytest would rewrite the assertions of its plugins, of which hydra is one
_IMPORTED = ["-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning"]


def run_alone(test: str, folder: Path) -> tuple[int | None, str]:
    """Run a test by its node id and return the exit status, None after 300 s, and the output."""
    with tempfile.TemporaryDirectory() as temporary:
        output = Path(temporary) / "output"
        process = _SERVER.Process(target=_be_pytest, args=(test, folder, output))
        process.start()
        process.join(300)
        status = process.exitcode
        process.kill()
        return status, output.read_text() if output.exists() else ""


def _be_pytest(test: str, folder: Path, output: Path) -> None:
    with output.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    for name in [name for name in os.environ if name.startswith(("PYTEST_", "COV_"))]:
        del os.environ[name]
    os.chdir(folder)
    sys.exit(pytest.main([*_WORDS, *_IMPORTED, test]))
