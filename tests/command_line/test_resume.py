"""``resume=FOLDER``, and what a run's metrics.csv keeps."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from ste_lightning.errors import ConfigurationError
from ste_lightning.running.metrics_file import MetricsFile, history, rows_until
from ste_lightning.running.resuming import expanded, newest
from ste_lightning.running.sweep import Combine


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def test_a_run_goes_on_in_its_folder_and_is_the_uninterrupted_one(
    cli: Any, small: list[str], tmp_path: Path
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    own = [*small, "seed=3", "rehearse=false"]
    cli("+recipe=digits_mlp", *own, "trainer.max_epochs=2", f"hydra.run.dir={whole}")
    status, _, err = cli("+recipe=digits_mlp", *own, f"hydra.run.dir={parts}")
    assert status == 0, err
    (parts / "checkpoints" / ".last.ckpt.12345678").write_text("half")  # of a killed process
    moved = tmp_path / "moved"
    parts.rename(moved)
    status, _, err = cli(f"resume={moved}", "trainer.max_epochs=2")
    assert status == 0, err
    one, two = weights(whole), weights(moved)
    assert all(torch.equal(one[name], two[name]) for name in one)
    results = [json.loads((f / "results.json").read_text()) for f in (whole, moved)]
    assert results[0]["metrics"] == results[1]["metrics"]
    assert "trainer.max_epochs=2" in results[1]["overrides"]
    assert not any("resume" in one for one in results[1]["overrides"])
    logged = [(f / "metrics" / "metrics.csv").read_text() for f in (whole, moved)]
    assert logged[0] == logged[1]
    assert (moved / "curves.png").is_file()
    assert sorted(p.name for p in (moved / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]

    # A recipe that has changed since is another training.
    config = moved / "config.yaml"
    config.write_text(config.read_text().replace("lr: 0.003", "lr: 0.001"))
    status, _, err = cli(f"resume={moved}")
    assert status == 1
    assert "optimizer.lr" in err
    assert "was 0.001 and is now 0.003" in err
    before = weights(moved)
    started = moved / ".hydra" / "hydra.yaml"
    os.link(started, tmp_path / "link")
    words = started.read_text()
    assert cli(f"resume={moved}", "trainer.max_epochs=abc")[0] == 1
    assert started.read_text() == words  # what was refused is not how the run was started
    status, _, err = cli(f"resume={moved}", "optimizer.lr=0.003")  # it has finished: nothing to do
    assert status == 0, err
    assert (tmp_path / "link").read_text() == words  # replaced, never written into: killed, or on
    assert "optimizer.lr=0.003" in started.read_text()  # a full disk, one of the two is there
    assert all(torch.equal(before[name], value) for name, value in weights(moved).items())
    again = json.loads((moved / "results.json").read_text())
    assert again["metrics"] == results[1]["metrics"]
    assert again["training_seconds"] > 0  # of the parts before

    (moved / "checkpoints" / "last.ckpt").unlink()  # nothing is trained over what has finished
    status, _, err = cli(f"resume={moved}", "optimizer.lr=0.003")
    assert status == 1
    assert "last.ckpt is not there" in err
    assert json.loads((moved / "results.json").read_text()) == again


def test_folders_that_hold_no_run_are_refused(cli: Any, tmp_path: Path) -> None:
    for folder, words in ((tmp_path / "none", "no such folder"), (tmp_path, "folder of a run")):
        status, _, err = cli(f"resume={folder}")
        assert status == 1
        assert words in err
        assert "Traceback" not in err
    with pytest.raises(ConfigurationError, match="no such folder"):
        expanded(["resume="])
    assert expanded(["seed=1"]) == ["seed=1"]
    assert newest(tmp_path) is None


def test_a_sweep_goes_on_although_hydra_was_killed_writing_its_file(tmp_path: Path) -> None:
    hydra = {"sweep": {"dir": str(tmp_path)}, "runtime": {"config_sources": []}}
    hydra |= {"overrides": {"task": ["+recipe=a", "seed=0,1"], "hydra": ["hydra.launcher=x"]}}
    Combine().on_multirun_start(OmegaConf.create({"resume": None, "hydra": hydra}))
    Combine.open = None
    (tmp_path / "multirun.yaml").write_text("")
    assert {"+recipe=a", "seed=0,1", "hydra.mode=MULTIRUN"} <= {*expanded([f"resume={tmp_path}"])}


def test_a_run_of_own_recipes_is_continued_with_their_folder(tmp_path: Path) -> None:
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "hydra.yaml").write_text(
        "hydra:\n"
        "  overrides: {task: [+recipe=own, seed=1, ckpt_path=x], hydra: [hydra.run.dir=y]}\n"
        "  runtime: {config_sources: [{path: mine, provider: command-line}]}\n"
    )
    own = [f"hydra.run.dir='{tmp_path}'", "hydra.mode=RUN", f"resume='{tmp_path}'"]
    assert expanded([f"resume={tmp_path}", "seed=2"]) == [
        "--config-dir=mine",
        "+recipe=own",
        "seed=2",
        *own,
    ]
    given = expanded([f"resume={tmp_path}", "--config-dir=other"])
    assert given == ["+recipe=own", "seed=1", "--config-dir=other", *own]
    assert expanded(given) == ["+recipe=own", "seed=1", "--config-dir=other", *own]  # of a rank


def test_metrics_are_on_disk_at_once_and_new_columns_cost_nothing(tmp_path: Path) -> None:
    file = tmp_path / "metrics" / "metrics.csv"
    logger = MetricsFile(tmp_path)
    logger.log_hyperparams({"seed": 1})
    logger.log_metrics({"loss": torch.tensor(0.5)}, step=0)
    assert history(file) == [{"loss": 0.5, "step": 0.0}]
    logger.log_metrics({"loss": 0.25, "accuracy": 1.0}, step=1)
    logger.log_metrics({"loss": 0.125}, step=2)
    rows = history(file)
    assert [row["loss"] for row in rows] == [0.5, 0.25, 0.125]
    assert rows[1]["accuracy"] == 1
    with file.open("a") as torn:
        torn.write("1.0,0.06")  # killed within a line
    assert history(file) == rows

    kept = MetricsFile(tmp_path, rows_until(file, 2))
    kept.log_metrics({"loss": 9.0}, step=2)
    kept.finalize("success")
    assert [row["loss"] for row in history(file)] == [0.5, 0.25, 9.0]
    MetricsFile(tmp_path).log_metrics({"other": 1.0}, step=0)  # another training
    assert history(file) == [{"other": 1.0, "step": 0.0}]
    assert history(tmp_path / "none.csv") == []
