"""What experiment loggers are told, and that each run of a sweep is a run of its own there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

from ste_lightning.running.experiment import end
from ste_lightning.running.provenance import provenance


def test_tensorboard_has_one_file_with_figures_settings_and_results(
    cli: Any, small: list[str], tmp_path: Path
) -> None:
    own = [one for one in small if not one.startswith("logger")]
    status, _, err = cli(
        "+recipe=digits_mlp", *own, "rehearse=false", "seed=3", f"hydra.run.dir={tmp_path}/run"
    )
    assert status == 0, err
    files = list((tmp_path / "run" / "tensorboard").glob("**/events*"))
    assert len(files) == 1
    events = EventAccumulator(str(files[0]))
    events.Reload()
    tags = events.Tags()
    assert "curves" in tags["images"]
    assert {"train/loss", "test/accuracy", "val/loss"} <= set(tags["scalars"])
    assert "hp_metric" not in tags["scalars"]
    assert "results/text_summary" in tags["tensors"]
    plugin = events.PluginTagToContent("hparams")
    data = plugin_data_pb2.HParamsPluginData.FromString(plugin["_hparams_/session_start_info"])
    told = data.session_start_info.hparams
    assert told["seed"].number_value == 3
    assert told["model.network.weight_quantizer.rule"].string_value == "clipped"
    assert told["name"].string_value == "digits_mlp"
    assert "seed=3" in json.loads(told["overrides"].string_value)
    assert told["hardware.cores"].number_value > 0
    assert "git" in told
    shown = plugin_data_pb2.HParamsPluginData.FromString(plugin["_hparams_/experiment"])
    assert "test/accuracy" in {one.name.tag for one in shown.experiment.metric_infos}
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["hardware"]["cores"] > 0
    assert {"versions", "git", "overrides"} <= set(results)


class Refusing:
    """A logger whose server is gone."""

    name = "refusing"

    def log_metrics(self, *arguments: Any) -> None:
        raise ConnectionError("no route")


def test_a_logger_that_fails_costs_a_warning(tmp_path: Path, capsys: Any) -> None:
    end([Refusing()], {"name": "x"}, {}, {"accuracy": 1.0}, {}, tmp_path, 1)
    assert "Refusing did not take the results: ConnectionError: no route" in capsys.readouterr().err


def test_provenance_outside_of_a_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert provenance()["git"] is None
    monkeypatch.setenv("PATH", "")
    assert provenance()["git"] is None


SWEEP = ("--multirun", "+recipe=digits_float", "seed=0,1", "rehearse=false")


@pytest.mark.slow
def test_wandb_offline_has_a_run_per_job(cli: Any, small: list[str], tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    own = [one for one in small if not one.startswith("logger")]
    status, _, err = cli(*SWEEP, *own, "logger=wandb", "logger.wandb.offline=true")
    assert status == 0, err
    assert "did not take" not in err
    for job in ("0", "1"):
        (folder,) = tmp_path.glob(f"multirun/digits_float/*/{job}/wandb/offline-run-*")
        (stream,) = folder.glob("run-*.wandb")
        text = stream.read_bytes()
        assert f"seed={job}".encode() in text  # the run's name
        assert b"digits_float-best" in text  # the artifact


@pytest.mark.slow
def test_mlflow_has_a_run_per_job_with_its_files(
    cli: Any, small: list[str], tmp_path: Path
) -> None:
    mlflow = pytest.importorskip("mlflow")
    own = [one for one in small if not one.startswith("logger")]
    status, _, err = cli(*SWEEP, *own, "logger=mlflow")
    assert status == 0, err
    assert "did not take" not in err
    client = mlflow.MlflowClient("sqlite:///mlflow.db")
    (experiment,) = client.search_experiments(filter_string="name = 'digits_float'")
    runs = client.search_runs([experiment.experiment_id])
    assert sorted("seed=1" in run.info.run_name for run in runs) == [False, True]
    for run in runs:
        assert run.info.status == "FINISHED"
        assert 0 <= run.data.metrics["final/test/accuracy"] <= 1
        assert run.data.params["optimizer.name"] == "adam"
        kept = {one.path for one in client.list_artifacts(run.info.run_id)}
        assert {"best.ckpt", "results.json", "config.yaml", "figures"} <= kept
