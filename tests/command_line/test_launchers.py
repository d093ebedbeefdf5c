"""Sweeps whose runs are processes of their own."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "package"),
    [
        ("joblib", "hydra_plugins.hydra_joblib_launcher"),
        ("submitit", "hydra_plugins.hydra_submitit_launcher"),
        ("ray", "hydra_plugins.hydra_ray_launcher"),
    ],
)
def test_a_launcher_runs_every_job_and_one_that_fails_costs_itself(
    tmp_path: Path, launcher: str, package: str
) -> None:
    pytest.importorskip(package)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "ste_lightning.train", "--multirun", "+recipe=digits_float"),
            *("trainer.max_epochs=1", "model.network.hidden=[16,16]", "logger=none"),
            *("callbacks.progress=null", "data.batch_size=256,0", "seed=0,1"),
            *(f"launcher={launcher}", f"hydra.sweep.dir={tmp_path}/sweep"),
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 1
    assert "no results in" in done.stderr
    assert "batch_size=0 cannot be used" in done.stderr
    with (tmp_path / "sweep" / "sweep.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["seed"] for row in rows] == ["0", "1"]  # of the batch size that works
