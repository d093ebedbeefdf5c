import json
import shutil
from pathlib import Path

import pytest

from ste_lightning.errors import ConfigurationError
from ste_lightning.results import main, one_run
from ste_lightning.running.results import check, rows, train
from ste_lightning.running.results.compared import holm, judged, lines_of, paired
from ste_lightning.running.results.page import page
from ste_lightning.running.results.plan import read_plan

PLAN = """
title: Small
text: Why it is here.
recipe: digits_mlp
seeds: [0, 1, 2]
overrides: [trainer.max_epochs=1, data.batch_size=256, 'model.network.hidden=[16,16]', logger=none,
            callbacks.progress=null]
small: [data.batch_size=128]
settings:
  - {name: float, overrides: [quantizer=float]}
  - {name: taught, overrides: [callbacks=distilled], twin: float, teacher: true}
  - {name: W1A1, overrides: [quantizer=sign], twin: float}
  - {name: W4A4, overrides: [quantizer=lsq4], twin: float}
goals:
  - {setting: W1A1, at_least: 0.9}
  - {setting: W1A1, within: 0.001}
  - {setting: W4A4, within: 0.1}
  - {setting: taught, at_least: 0.5}
"""
COLUMNS = "setting,seed,value,bytes,ms,training_seconds,processor\n"
VALUES = {
    "float": (0.95, 0.96, 0.97),
    "W1A1": (0.91, 0.93, 0.92),
    "W4A4": (0.949, 0.961, 0.969),
}


@pytest.fixture
def plan(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(PLAN)
    return read_plan(path)


def fill(plan, values=VALUES):
    lines = [
        f"{name},{seed},{value},1000,0.5,800.0,a processor\n"
        for name, column in values.items()
        for seed, value in enumerate(column)
    ]
    plan.table.write_text(COLUMNS + "".join(lines))


def values_of(plan):
    return [(row["setting"], row["seed"], row["value"]) for row in rows.read_rows(plan.table)]


def test_twins_are_trained_before_those_that_they_teach(plan):
    order = [job.setting.name for job in plan.jobs if job.seed == 0]
    assert order == ["float", "W1A1", "W4A4", "taught"]
    words = plan.overrides(plan.jobs[3], "twin.ckpt")
    assert words[0] == "+recipe=digits_mlp"
    assert words[-2:] == ["teacher=twin.ckpt", "seed=0"]
    fill(plan, {"float": (0.9, 0.9), "W1A1": (0.8,)})
    left = [(job.setting.name, job.seed) for job in train.missing(plan)]
    assert len(left) == 12 - 3
    assert ("float", 2) in left
    assert ("float", 1) not in left


def test_differences_are_taken_seed_by_seed(plan):
    fill(plan)
    lines = {line.setting: line for line in lines_of(plan, rows.read_rows(plan.table))}
    assert list(lines) == ["float", "W1A1", "W4A4"]
    twin = lines["W1A1"].twin
    assert twin.difference.mean == pytest.approx(-0.04)
    # differences -0.04, -0.03, -0.05: t = -0.04 / (0.01 / sqrt 3)
    assert twin.p == pytest.approx(0.020204, rel=1e-3)
    same = paired(lines["W4A4"].rows, lines["W4A4"].rows)
    assert (same.difference.mean, same.p) == (0, 1)
    # equal differences are no certainty: three equal signs come by chance once in four times
    less = [{"seed": r["seed"], "value": r["value"] - 0.25} for r in lines["W4A4"].rows]
    assert paired(less, lines["W4A4"].rows).p == 0.25
    shifted = [{"seed": r["seed"], "value": r["value"] + 0.25} for r in lines["W4A4"].rows]
    assert paired(shifted[:1], lines["W4A4"].rows).p is None
    assert paired([{"seed": 9, "value": 1.0}], lines["W4A4"].rows) is None


def test_several_comparisons_are_corrected_as_holm_says():
    adjusted = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert adjusted == pytest.approx({"d": 0.02, "a": 0.03, "c": 0.06, "b": 0.06})


def test_goals_are_reached_missed_or_not_run(plan):
    fill(plan)
    said = judged(plan, lines_of(plan, rows.read_rows(plan.table)))
    assert "reached (0.9200, 3 of 3 seeds)" in said[0]
    assert "**missed** (0.0400" in said[1]
    assert "reached (0.0003" in said[2]
    assert said[3].endswith("not run")


def test_the_page_says_what_the_tables_say(plan, tmp_path):
    fill(plan)
    text = page(tmp_path, tmp_path / "images")
    assert "## Small" in text
    assert "9 of 12 runs, 2.0 hours of training in all. Processor: a processor." in text
    assert "| W1A1 | 3 | 0.9200 [" in text
    assert "| 0.02 | 1,000 | 0.5 | 800 |" in text
    assert "**missed**" in text
    assert (tmp_path / "images" / "results_small.png").stat().st_size > 5_000
    fill(plan, VALUES | {"taught": (0.90, 0.91, 0.92)})
    text = page(tmp_path)
    assert "Highest mean of the quantized settings: **W4A4**; significantly better than" in text
    plan.path.write_text(PLAN + "rivals: '[!f]*'\n")
    assert "Highest mean of the settings `[!f]*`: **W4A4**" in page(tmp_path)
    plan.path.write_text(PLAN + "rivals: '*A*'\n")
    with pytest.raises(ConfigurationError, match="rivals"):  # two do not make a ranking
        page(tmp_path)


def test_a_page_without_results_says_so(plan, tmp_path):
    assert "0 of 12 runs" in page(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("title", "titel", "unknown key in .*'titel'. Did you mean 'title'"),
        ("twin: float", "twin: flaot", "unknown twin of 'taught'"),
        ("{setting: taught", "{setting: tought", "unknown setting of a goal"),
        ("name: W4A4", "name: W1A1", "names in .* must differ"),
        ("recipe: digits_mlp", "text2: 1", "unknown key"),
        ("[0, 1, 2]", "[0, a]", "seeds="),
        ("twin: float, teacher", "teacher", "it is the twin"),
        ("title: Small", "title: [", "cannot be used"),
    ],
)
def test_a_wrong_plan_is_refused(tmp_path, old, new, said):
    path = tmp_path / "wrong.yaml"
    path.write_text(PLAN.replace(old, new))
    with pytest.raises(ConfigurationError, match=said):
        read_plan(path)


def test_a_plan_without_a_recipe_or_settings_is_refused(tmp_path):
    path = tmp_path / "wrong.yaml"
    path.write_text(PLAN.replace("recipe: digits_mlp\n", ""))
    with pytest.raises(ConfigurationError, match="recipe=None"):
        read_plan(path)
    path.write_text("title: nothing")
    with pytest.raises(ConfigurationError, match="settings="):
        read_plan(path)
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ConfigurationError, match="no table of results"):
        rows.read_rows(tmp_path / "t.csv")


def test_the_command_names_what_it_does_not_know(tmp_path, capsys):
    assert main(["train", "--folder", str(tmp_path)]) == 1
    assert "it holds no plan" in capsys.readouterr().err
    (tmp_path / "small.yaml").write_text(PLAN)
    assert main(["train", "smal", "--folder", str(tmp_path)]) == 1
    assert "Did you mean 'small'" in capsys.readouterr().err
    assert main(["train", "--folder", str(tmp_path), "--jobs", "0"]) == 1
    out = tmp_path / "page" / "results.md"
    assert main(["page", "--folder", str(tmp_path), "--out", str(out)]) == 0
    assert "## Small" in out.read_text()


def test_a_full_table_is_left_as_it_is(plan, tmp_path, capsys):
    fill(plan, VALUES | {"taught": (0.90, 0.91, 0.92)})
    before = plan.table.read_text()
    words = ["train", "--folder", str(tmp_path), "--work", str(tmp_path / "work")]
    assert main(words) == 0
    assert plan.table.read_text() == before
    plan.table.unlink()
    assert main(["check", *words[1:]]) == 0
    assert capsys.readouterr().out.count("written:") == 1


@pytest.fixture
def finished(plan, cli, tmp_path):
    """The work folder, in which the run `float`, seed 0, has finished."""
    work = tmp_path / "work"
    folder = work / "small" / "float" / "0"
    (job,) = [j for j in plan.jobs if (j.setting.name, j.seed) == ("float", 0)]
    status, _, err = cli(*plan.overrides(job), f"hydra.run.dir={folder}")
    assert status == 0, err
    return work


def test_teachers_of_the_table_whose_runs_are_gone_are_trained_again(plan, finished, tmp_path):
    fill(plan)
    before, asked = values_of(plan), []

    def trained(overrides):
        folder = Path(overrides[-1].removeprefix("hydra.run.dir="))
        asked.append("/".join(folder.parts[-2:]))
        shutil.copytree(finished / "small/float/0", folder)
        return 0, ""

    assert train.train_plan(plan, tmp_path / "elsewhere", trained) == []
    assert asked == [*(f"float/{k}" for k in range(3)), *(f"taught/{k}" for k in range(3))]
    after = values_of(plan)
    assert sorted(row for row in after if row[0] != "taught") == sorted(before)
    assert len(after) == len(before) + 3


def test_rows_hold_what_a_finished_run_says(plan, finished):
    asked = []

    def broken(overrides):
        asked.append(overrides)
        return 1, "out of luck"

    wrong = train.train_plan(plan, finished, broken, jobs=2)
    assert len(wrong) == 11
    assert "small, W1A1, seed 0: out of luck" in wrong
    assert {words[-1].rpartition("/")[2] for words in asked} == {"0", "1", "2"}
    taught = next(words for words in asked if words[-1].endswith("small/taught/1"))
    assert any("small/float/1/checkpoints/" in word for word in taught if "teacher=" in word)

    (row,) = rows.read_rows(plan.table)
    results = json.loads((finished / "small/float/0/results.json").read_text())
    assert row["value"] == pytest.approx(results["metrics"]["test/accuracy"], abs=1e-6)
    assert (row["network"], row["data"], row["weight"]) == ("MLP", "Digits", "float")
    assert 1_000 < int(row["bytes"]) < 50_000
    assert row["command"].startswith("python -m ste_lightning.train +recipe=digits_mlp")
    # what is in the table is not run again, and is compared with a repetition
    assert ("float", 0) not in {(j.setting.name, j.seed) for j in train.missing(plan)}
    assert check.repeated(plan, finished, broken) == []
    plan.table.write_text(plan.table.read_text().replace(str(row["value"]), "0.1234"))
    (said,) = check.repeated(plan, finished, broken)
    assert "is not the table's 0.1234" in said
    (finished / "small/float/0/results.json").unlink()
    (said,) = check.repeated(plan, finished, broken)
    assert said.endswith("out of luck")
    assert asked[-1] == [f"resume={finished / 'small/float/0'}"]
    plan.table.unlink()
    assert check.repeated(plan, finished, broken) == []


def test_a_run_says_why_it_failed(cli):
    status, said = one_run(["+recipe=digits_mpl"])
    assert status == 1
    assert "digits_mlp" in said


def test_a_metric_that_is_not_measured_is_named(plan, finished):
    with pytest.raises(ConfigurationError, match=r"test/recall.*test/accuracy"):
        rows.row_of(finished / "small/float/0", "float", "test/recall", "")


@pytest.mark.slow
def test_the_small_version_of_a_plan_trains_everything(plan, tmp_path):
    words = ["train", "--small", "--folder", str(tmp_path), "--work", str(tmp_path / "work")]
    assert main(words) == 0
    table = rows.read_rows(tmp_path / "work" / "small" / "small.csv")
    assert [row["setting"] for row in table] == ["float", "taught", "W1A1", "W4A4"]
    assert main(["check", "--folder", str(tmp_path), "--work", str(tmp_path / "work")]) == 0
