import csv
import json
import shutil
import signal

import pytest

from ste_lightning.combine import main as combine
from ste_lightning.errors import ConfigurationError
from ste_lightning.running.resuming import finished_before


def sweep_folder(tmp_path, name):
    (folder,) = (tmp_path / "multirun" / name).iterdir()
    return folder


def rows_of(folder, name="sweep.csv"):
    with (folder / name).open() as file:
        return list(csv.DictReader(file))


def test_a_sweep_over_seeds_gives_one_table(cli, small, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("ste_lightning.running.sweep.on_terminal", lambda: True)
    status, out, err = cli(
        "--multirun", "+recipe=digits_mlp", *small, "quantizer=sign,float", "seed=0,1",
        "figures.curves=null",
    )  # fmt: skip
    assert status == 0, err
    assert "run 1 of 4\nrun 2 of 4, about 0:" in err
    assert err.count(" left\n") == 3
    folder = sweep_folder(tmp_path, "digits_mlp")
    rows = rows_of(folder)
    assert [(row["quantizer"], row["seed"]) for row in rows] == [
        ("sign", "0"),
        ("sign", "1"),
        ("float", "0"),
        ("float", "1"),
    ]
    assert all(0 < float(row["test/accuracy"]) <= 1 for row in rows)
    seconds = [json.loads((folder / n / "results.json").read_text()) for n in "0123"]
    assert all(one["training_seconds"] < one["seconds"] for one in seconds)
    assert [float(row["seconds"]) for row in rows] == [s["training_seconds"] for s in seconds]
    assert "test/accuracy - baseline" in out
    # Intervals of two settings' three metrics, and of one setting's differences.
    assert (folder / "table.md").read_text().count("[") == 2 * 3 + 3
    assert (folder / "accuracy.png").stat().st_size > 5_000
    table = rows_of(folder, "table.csv")
    assert float(table[1]["test/accuracy difference"]) == pytest.approx(
        float(table[1]["test/accuracy"]) - float(table[0]["test/accuracy"])
    )
    assert (folder / "table.tex").read_text().startswith(r"\begin{tabular}")

    # A sweep of which runs were lost goes on with those alone, and is combined anew.
    files = ("sweep.csv", "table.csv", "table.md", "table.tex")
    before = {name: (folder / name).read_text() for name in files}
    untouched = (folder / "0" / "results.json").stat().st_mtime_ns
    (folder / "2" / "results.json").unlink()
    shutil.rmtree(folder / "3")
    assert combine([str(folder)]) == 1
    assert "it was stopped" in capsys.readouterr().err
    assert len(rows_of(folder)) == 2
    status, out, err = cli(f"resume={folder}")
    assert status == 0, err
    assert (folder / "0" / "results.json").stat().st_mtime_ns == untouched

    def without_seconds(text):
        return [line.rpartition(",")[0] for line in text.splitlines()]

    assert without_seconds((folder / "sweep.csv").read_text()) == without_seconds(
        before["sweep.csv"]
    )
    assert combine([str(folder)]) == 0
    status, _, err = cli(f"resume={folder}", "data.batch_size=128")
    assert status == 1
    assert "a sweep goes on with its own settings" in err
    other = json.loads((folder / "0" / "results.json").read_text())
    other["overrides"][0] = "+recipe=digits_cnn"
    (folder / "0" / "results.json").write_text(json.dumps(other))
    with pytest.raises(ConfigurationError, match=r"it holds the run \+recipe=digits_cnn"):
        finished_before(None, ["+recipe=digits_mlp"], folder / "0")
    assert combine([str(tmp_path)]) == 1


def test_a_recipe_can_be_a_sweep(cli, tmp_path):
    status, _, err = cli(
        "+recipe=sample_size",
        "data.samples=8,64",
        "data.n=4",
        "data.trials=3",
        "data.steps_per_epoch=40",
        "callbacks.progress=null",
    )
    assert status == 0, err
    folder = sweep_folder(tmp_path, "sample_size")
    rows = rows_of(folder)
    assert [row["data.samples"] for row in rows] == ["8", "64"]
    assert float(rows[1]["recovered"]) == 3
    assert (folder / "recovery.png").stat().st_size > 5_000


def test_a_run_that_fails_does_not_stop_the_others(cli, small, tmp_path, monkeypatch):
    (tmp_path / "failing.py").write_text(
        "import lightning as L\n"
        "class Fails(L.Callback):\n"
        "    def on_train_start(self, trainer, module):\n"
        "        if trainer.datamodule.batch_size == 512:\n"
        "            raise KeyError('nothing is there')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    status, out, err = cli(
        "--multirun",
        "+recipe=digits_float",
        *small,
        "rehearse=false",
        "data.batch_size=256,0,512",
        "+callbacks.fails={_target_: failing.Fails}",
        "sweep.baseline={data.batch_size: 0}",
        "+sweep.figures.other={_target_: ste_lightning.figures.comparison, metric: none}",
    )
    assert status == 1
    assert "batch_size=0 cannot be used" in err
    assert "nothing is there" in err
    folder = sweep_folder(tmp_path, "digits_float")
    near = folder.relative_to(tmp_path)
    assert f"no results in {near}/1: batch_size=0 cannot be used" in err
    assert f"no results in {near}/2: stopped after 0 steps: KeyError" in err
    assert f"To run what is missing: resume={near}" in err
    assert [row["test/accuracy"] for row in rows_of(folder)]
    assert "no finished run has it" in out  # the baseline
    assert "sweep.figures.other could not be drawn" in err


def test_a_sweep_that_is_stopped_still_has_its_table(cli, small, tmp_path, monkeypatch):
    (tmp_path / "stopping.py").write_text(
        "import lightning as L, signal\n"
        "class Stops(L.Callback):\n"
        "    def on_train_batch_start(self, trainer, *rest):\n"
        "        if trainer.datamodule.seed == 1 and trainer.global_step == 1:\n"
        "            signal.raise_signal(signal.SIGINT)\n"
    )
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background
    monkeypatch.syspath_prepend(tmp_path)
    status, _, err = cli(
        "--multirun",
        "+recipe=digits_float",
        *small,
        "rehearse=false",
        "seed=0,1,2",
        "+callbacks.stops={_target_: stopping.Stops}",
    )
    assert status == 130
    folder = sweep_folder(tmp_path, "digits_float")
    assert len(rows_of(folder)) == 1
    assert f"To run what is missing: resume={folder.relative_to(tmp_path)}" in err
