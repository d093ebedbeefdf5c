"""Shared by all tests: one thread each, and a process of its own for tests that fork."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist
from own_process import run_alone

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
    status, output = run_alone(pyfuncitem.nodeid, pyfuncitem.config.rootpath)
    assert status == 0, output
    return True
