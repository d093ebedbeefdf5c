"""A study of many cells on a Ray cluster whose workers die."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest

from ste_lightning.theory.studies.cells import Cell
from ste_lightning.theory.studies.runner import run

CELLS = 10_000


def kill_workers(stop: threading.Event, killed: list[int]) -> None:
    """Kill a worker that is measuring a cell, now and then; a new one takes seconds to start."""
    psutil = pytest.importorskip("psutil")
    while not stop.wait(random.uniform(5, 15)):
        at_work = [
            process
            for process in psutil.Process().children(recursive=True)
            if process.status() != psutil.STATUS_ZOMBIE
            and " ".join(process.cmdline()).startswith("ray::measure")
        ]
        if at_work:
            chosen = random.choice(at_work)
            chosen.kill()
            killed.append(chosen.pid)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_no_cell_is_lost_or_doubled_while_workers_are_killed(tmp_path: Path) -> None:
    ray = pytest.importorskip("ray")
    base = {"n": 4, "m": 1, "samples": 4, "steps": 2, "trials": 1}
    cells = [Cell({**base, "seed": seed}) for seed in range(CELLS)]
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    stop, killed = threading.Event(), []
    killer = threading.Thread(target=kill_workers, args=(stop, killed))
    killer.start()
    try:
        results = run(cells, tmp_path, launcher="ray", show=False)
    finally:
        stop.set()
        killer.join()
        ray.shutdown()
    assert killed
    assert [result.settings["seed"] for result in results] == list(range(CELLS))
    files = [path.name for path in (tmp_path / "cells").iterdir()]
    assert sorted(files) == sorted(f"{cell.key}.parquet" for cell in cells)
