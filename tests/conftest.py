"""Shared by all tests: one thread each, and a process of its own for tests that fork."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

torch.set_num_threads(1)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test marked ``forks`` in a fresh pytest: forked children end pytest-xdist's workers."""
    worker = "PYTEST_XDIST_WORKER" in os.environ
    if not worker or pyfuncitem.get_closest_marker("forks") is None:
        return None
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "COV_"))}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider"]
    result = subprocess.run(
        [*command, "-o", "addopts=", pyfuncitem.nodeid],
        cwd=pyfuncitem.config.rootpath,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return True
