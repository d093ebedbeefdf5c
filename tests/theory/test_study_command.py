"""The command line of studies."""

import torch

from ste_lightning import study
from ste_lightning.theory.studies import store


def test_the_command_runs_resumes_and_refuses(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    small = [
        "+recipe=normalization",
        "base.n=8",
        "base.samples=40",
        "base.trials=4",
        "base.steps=20",
        "workers=1",
        "grid.rule=[relu]",
        "grid.inputs=[gaussian,uniform]",
    ]
    assert study.main(small) == 0
    folder = tmp_path / "outputs" / "study" / "normalization"
    names = {path.name for path in folder.iterdir()}
    assert names == {"cells", "config.yaml", "figure.png", "results.parquet", "table.csv"}
    before = {path: path.stat().st_mtime_ns for path in (folder / "cells").iterdir()}
    assert study.main(small) == 0
    assert before == {path: path.stat().st_mtime_ns for path in (folder / "cells").iterdir()}
    printed = capsys.readouterr().out
    assert "standardize_layer_norm" in printed  # not squeezed to the width of some terminal
    assert "…" not in printed
    short = "+short_table={_target_: ste_lightning.theory.studies.recurrence.same_data}"
    monkeypatch.setattr("ste_lightning.theory.studies.recurrence.same_data", lambda _: [{"a": 7}])
    assert study.main([*small, short]) == 0
    assert "all 2 rows: " in capsys.readouterr().out
    gone = [f"~{key}" for key in ("parts", "figure", "table")]
    capsys.readouterr()
    assert study.main([*small, *gone]) == 0  # as if they had never been set
    assert capsys.readouterr().out.startswith("2 cells, ")  # says where they are, without a table
    assert study.main([*small, "+partz=1"]) == 1
    assert "unknown key 'partz'. Did you mean 'parts'" in capsys.readouterr().err
    assert study.main(["+recipe=phase_diagrm"]) == 1
    assert "Did you mean 'phase_diagram'" in capsys.readouterr().err
    assert study.main([]) == 1
    assert "+recipe=NAME" in capsys.readouterr().err
    assert study.main(["+recipe=order", "small=true", "grid.depth=[3]"]) == 1
    assert "it is set by parts.first_look.depth: change that" in capsys.readouterr().err
    torch.set_num_threads(threads)


def test_several_studies_in_one_process(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    recipes = tmp_path / "recipes"
    recipes.mkdir()
    text = """
base: {n: 8, steps: 20, trials: 64}
grid: {rule: [%s], samples: [10]}
table: {_target_: ste_lightning.theory.studies.rates.rate_rows}
"""
    for rule in ("relu", "tanh"):
        (recipes / f"{rule}_only.yaml").write_text(text % rule)
    arguments = ["--multirun", "+recipe=glob(*_only)", "small=true", "--config-dir", str(recipes)]
    assert study.main([*arguments, "base.steps=10", "grid.samples=[12]"]) == 0
    folder = tmp_path / "outputs" / "study"
    for name in ("relu_only", "tanh_only"):
        assert len(list((folder / name / "cells").iterdir())) == 1
        assert (folder / name / "table.csv").exists()
        (cell,) = (folder / name / "cells").iterdir()
        settings = store.read(cell)[1]["settings"]
        assert (settings["steps"], settings["samples"]) == (10, 12)
    assert "tanh_only" in capsys.readouterr().out
    assert study.main([*arguments, "base.stpes=10"]) == 1
    assert "Did you mean 'steps'" in capsys.readouterr().err

    # one study: arguments that the recipe leaves out may be set, others only where they count
    one = ["+recipe=tanh_only", "small=true", "write_report=false", "--config-dir", str(recipes)]
    assert study.main([*one, "base.lr=0.5", "base.steps=5", "hydra.run.dir=one"]) == 0
    (cell,) = (tmp_path / "one" / "cells").iterdir()
    assert store.read(cell)[1]["settings"]["lr"] == 0.5
    table = (tmp_path / "one" / "table.csv").read_bytes()
    other = ["+recipe=relu_only", *one[1:], "hydra.run.dir=one"]
    assert study.main(other) == 1
    assert "one' cannot be used: it holds the study 'tanh_only'" in capsys.readouterr().err
    assert (tmp_path / "one" / "table.csv").read_bytes() == table
    assert study.main([*one, "base.stpes=10"]) == 1
    assert "Did you mean 'steps'" in capsys.readouterr().err
    assert study.main([*one, "base.samples=12"]) == 1
    assert "base.samples='12' cannot be used: it is set by grid.samples" in capsys.readouterr().err
    torch.set_num_threads(threads)


def test_a_small_version_has_the_parts_that_it_names(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    small = ["+recipe=bands", "small=true", "workers=1", "write_report=false", "figure=null",
             "base.steps=4", "base.n=4", "grid.method=[askew]", "grid.noise=[0.0]",
             "+parts={few: {samples: [8]}, many: {samples: [9]}}"]  # fmt: skip
    assert study.main([*small, "small_parts=[few]"]) == 0
    (cell,) = (tmp_path / "outputs" / "study" / "bands" / "cells").iterdir()
    assert store.read(cell)[1]["settings"]["samples"] == 8
    # A part that is left out is none of the small version's.
    assert study.main([*small, "small_parts=[few,many]", "~parts.few"]) == 0
    assert len(list((tmp_path / "outputs" / "study" / "bands" / "cells").iterdir())) == 2
    assert study.main([*small, "small_parts=[fww]"]) == 1
    assert "Did you mean 'few'" in capsys.readouterr().err
    torch.set_num_threads(threads)
