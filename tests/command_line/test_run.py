import csv
import json
import signal

import pytest
import torch
from omegaconf import OmegaConf

from ste_lightning.models import Classifier


def folder_of(tmp_path, recipe):
    (folder,) = (tmp_path / "outputs" / recipe).iterdir()
    return folder


def test_a_run_leaves_results_metrics_checkpoints_config_and_figure(cli, small, tmp_path):
    status, out, err = cli("+recipe=digits_mlp", *small, "logger=tensorboard", "seed=3")
    assert status == 0, err
    folder = folder_of(tmp_path, "digits_mlp")
    results = json.loads((folder / "results.json").read_text())
    assert results["name"] == "digits_mlp"
    assert results["seed"] == 3
    assert "seed=3" in results["overrides"]
    assert 0 < results["metrics"]["test/accuracy"] < 1
    assert f"{results['metrics']['test/accuracy']:.4g}" in out
    assert "0.965 to 1 (!)" in out  # the recipe's band, missed after one epoch
    assert "outside the band" in out
    with (folder / "metrics" / "metrics.csv").open() as file:
        assert {"val/accuracy", "train/loss", "epoch"} <= set(next(csv.reader(file)))
    assert list((folder / "tensorboard").glob("events*"))
    resolved = OmegaConf.load(folder / "config.yaml")
    assert resolved.model.network.weight_quantizer == {"map": "sign", "rule": "clipped"}
    assert (folder / "curves.png").stat().st_size > 10_000
    loaded = Classifier.load_from_checkpoint(
        folder / "checkpoints" / "best.ckpt", weights_only=True
    )
    assert loaded.eval()(torch.zeros(1, 1, 8, 8)).shape == (1, 10)
    assert not [path for path in folder.rglob(".*") if path.is_file()]  # no temporary file


def test_resume_and_test_from_a_checkpoint(cli, small, tmp_path):
    cli("+recipe=digits_float", *small, f"hydra.run.dir={tmp_path}/first")
    last = tmp_path / "first" / "checkpoints" / "last.ckpt"
    steps = torch.load(last, weights_only=True)["global_step"]
    more = [*small, f"ckpt_path={last}", "callbacks=best", "callbacks.progress=null"]
    status, _, err = cli(
        "+recipe=digits_float", *more, "trainer.max_epochs=3", f"hydra.run.dir={tmp_path}/more"
    )
    assert status == 0, err
    resumed = torch.load(tmp_path / "more" / "checkpoints" / "last.ckpt", weights_only=True)
    assert resumed["global_step"] == 3 * steps

    status, out, err = cli(
        "+recipe=digits_float", *more, "mode=test", f"hydra.run.dir={tmp_path}/test"
    )
    assert status == 0, err
    assert "test/accuracy" in out
    results = json.loads((tmp_path / "test" / "results.json").read_text())
    assert set(results["metrics"]) == {"test/accuracy", "test/f1", "test/loss"}


def test_an_interrupt_leaves_a_checkpoint_to_resume_from(cli, small, tmp_path, monkeypatch):
    (tmp_path / "interrupting.py").write_text(
        "import lightning as L\n"
        "class Interrupt(L.Callback):\n"
        "    def on_train_batch_end(self, trainer, *rest):\n"
        "        if trainer.global_step == 6:\n"
        "            raise KeyboardInterrupt\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    handler = signal.getsignal(signal.SIGINT)
    try:
        status, _, err = cli(
            "+recipe=digits_mlp",
            *small,
            "trainer.max_epochs=2",
            "+callbacks.interrupt={_target_: interrupting.Interrupt}",
        )
    finally:
        signal.signal(signal.SIGINT, handler)
    assert status == 130
    folder = folder_of(tmp_path, "digits_mlp")
    last = folder / "checkpoints" / "last.ckpt"
    assert "Interrupted after 6 steps" in err
    assert f"To go on: resume={folder}" in err
    assert not (folder / "results.json").exists()
    status, _, err = cli("+recipe=digits_mlp", *small, "trainer.max_epochs=2", f"ckpt_path={last}")
    assert status == 0, err


def test_two_layer_recipes_report_recovery_and_draw_recurrence(cli, tmp_path):
    status, out, err = cli(
        "+recipe=recurrence",
        "data.n=6",
        "data.samples=256",
        "data.trials=8",
        "data.steps_per_epoch=300",
        "model.burn_in=20",
        "logger=none",
        "callbacks.progress=null",
    )
    assert status == 0, err
    folder = folder_of(tmp_path, "recurrence")
    metrics = json.loads((folder / "results.json").read_text())["metrics"]
    assert metrics["trials"] == 8
    assert metrics["recovered_ergodic"] == 8
    assert metrics["prediction_correlation"] > 0.5
    assert metrics["escapes_min"] >= 0
    assert 0 < metrics["predicted"] <= 1
    assert "prediction_correlation" in out
    assert (folder / "recurrence.png").stat().st_size > 10_000


def test_the_same_seed_gives_the_same_run(cli, small, tmp_path):
    metrics = []
    for name in ("a", "b"):
        cli("+recipe=digits_mlp", *small, f"hydra.run.dir={tmp_path}/{name}")
        metrics.append(json.loads((tmp_path / name / "results.json").read_text())["metrics"])
    assert metrics[0] == metrics[1]


@pytest.mark.parametrize("logger", ["none", "csv"])
def test_metrics_csv_is_written_with_every_logger(cli, small, tmp_path, logger):
    status, _, err = cli("+recipe=digits_float", *small, f"logger={logger}")
    assert status == 0, err
    folder = folder_of(tmp_path, "digits_float")
    assert (folder / "metrics" / "metrics.csv").is_file()
    assert not (folder / "tensorboard").exists()
