"""Sweeps whose runs are processes of their own, or follow from each other."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra.errors import MissingConfigException
from omegaconf import OmegaConf

from ste_lightning.running.failures import readable


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


SEARCH = [
    *("+recipe=digits_search", "trainer.max_epochs=1", "callbacks.progress=null"),
    *("model.network.hidden=[16,16]", "data.batch_size=256", "rehearse=false"),
]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Optuna 2's and SQLAlchemy 1.4's own
def test_a_search_goes_on_where_it_was_and_a_run_that_fails_costs_itself(
    cli: Any, tmp_path: Path
) -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    folder = tmp_path / "search"
    status, out, err = cli(*SEARCH, "hydra.sweeper.n_trials=3", f"hydra.sweep.dir={folder}")
    assert status == 0, err
    best = OmegaConf.load(folder / "optimization_results.yaml")
    with (folder / "sweep.csv").open() as file:
        losses = {row["optimizer.lr"]: float(row["val/loss"]) for row in csv.DictReader(file)}
    assert len(losses) == 3
    assert best.best_value == min(losses.values())  # the direction is the monitor's
    assert f"best: optimizer.lr={best.best_params['optimizer.lr']}" in out
    first = (folder / "0" / "results.json").read_bytes()
    shutil.rmtree(folder / "2")
    status, _, err = cli(f"resume={folder}", "hydra.sweeper.n_trials=4")
    assert status == 0, err
    assert (folder / "0" / "results.json").read_bytes() == first
    with (folder / "sweep.csv").open() as file:
        after = {row["optimizer.lr"]: float(row["val/loss"]) for row in csv.DictReader(file)}
    assert len(after) == 4
    assert after.items() >= losses.items()

    params = ["--multirun", "data.batch_size=choice(256,0)"]
    status, _, err = cli(
        *(one for one in SEARCH if "batch" not in one),
        *(*params, "monitor=val/accuracy", "monitor_mode=max", "hydra.sweeper.n_trials=4"),
        f"hydra.sweep.dir={tmp_path}/failing",
    )
    assert status == 1
    assert "batch_size=0 cannot be used" in err
    best = OmegaConf.load(tmp_path / "failing" / "optimization_results.yaml")
    assert best.best_params["data.batch_size"] == 256
    status, _, err = cli(*SEARCH, "monitor=null", "hydra.sweeper.n_trials=1")
    assert status == 1
    assert "monitor=None cannot be used: name the metric" in err


@pytest.mark.parametrize("extra", ["launcher=submitit", "launcher=joblib", "sweeper=optuna"])
def test_a_missing_extra_is_named(extra: str) -> None:
    name = extra.partition("=")[2]
    missing = MissingConfigException(
        "Could not find it",
        f"hydra/{extra.partition('=')[0]}/{'submitit_local' if name == 'submitit' else name}",
        ["basic"],
    )
    assert f"pip install 'ste-lightning[{name}]'" in str(readable(missing))
