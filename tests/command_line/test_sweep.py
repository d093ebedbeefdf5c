import csv
import json

from ste_lightning.running.sweep import average, collect


def sweep_folder(tmp_path, name):
    (folder,) = (tmp_path / "multirun" / name).iterdir()
    return folder


def rows_of(folder):
    with (folder / "sweep.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_sweep_over_seeds_gives_one_table(cli, small, tmp_path):
    status, out, err = cli(
        "--multirun", "+recipe=digits_mlp", *small, "quantizer=sign,float", "seed=0,1"
    )
    assert status == 0, err
    folder = sweep_folder(tmp_path, "digits_mlp")
    rows = rows_of(folder)
    assert [(row["quantizer"], row["seed"]) for row in rows] == [
        ("sign", "0"),
        ("sign", "1"),
        ("float", "0"),
        ("float", "1"),
    ]
    assert all(0 < float(row["test/accuracy"]) <= 1 for row in rows)
    assert out.count("±") == 2 * 3  # two settings, three metrics
    assert (folder / "accuracy.png").stat().st_size > 5_000


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


def test_a_run_that_fails_does_not_stop_the_others(cli, small, tmp_path):
    status, _, err = cli("--multirun", "+recipe=digits_float", *small, "data.batch_size=256,0,512")
    assert status == 1
    assert "batch_size=0 cannot be used" in err
    assert "no results in" in err
    assert [row["data.batch_size"] for row in rows_of(sweep_folder(tmp_path, "digits_float"))] == [
        "256",
        "512",
    ]


def test_collecting_tells_settings_from_metrics_and_finds_what_is_missing(tmp_path):
    for job, (rule, seed) in enumerate([("relu", 0), ("relu", 1), ("swish", 0)]):
        (tmp_path / str(job)).mkdir()
        results = {
            "overrides": ["+recipe=x", f"rule={rule}", f"seed={seed}", "lr=0.1"],
            "metrics": {"accuracy": 0.5 + 0.1 * job},
            "seconds": 1.0,
        }
        (tmp_path / str(job) / "results.json").write_text(json.dumps(results))
    (tmp_path / "3").mkdir()
    rows, varied, missing = collect(tmp_path)
    assert varied == ["rule", "seed"]
    assert rows[1] == {"rule": "relu", "seed": 1, "accuracy": 0.6, "seconds": 1.0}
    assert missing == [tmp_path / "3"]
    table = average(rows, varied, ["accuracy"])
    assert table[0] == {
        "rule": "relu",
        "runs": 2,
        "accuracy": "0.5500 ± 0.071",
        "seconds": 1.0,
    }
    assert table[1]["accuracy"] == 0.7
