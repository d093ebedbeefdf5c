"""Shared by all tests: one thread each, and a process of its own for tests that fork."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist

torch.set_num_threads(1)
os.environ.setdefault("STE_REPORT", "false")  # tests of pages ask for them


@pytest.fixture(autouse=True)
def _nothing_distributed_is_left_behind() -> Iterator[None]:
    """A strategy that was refused halfway leaves a process group and its variables."""
    before = dict(os.environ)
    yield
    if dist.is_initialized():
        dist.destroy_process_group()
    for name in ("MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE", "NODE_RANK", "LOCAL_RANK", "RANK"):
        if name not in before:
            os.environ.pop(name, None)


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
