"""Studies: the grid, what is stored and reused, tables, figures, and the command."""

import math
import sys
import types

import pytest
import torch

from ste_lightning import study
from ste_lightning.errors import ConfigurationError
from ste_lightning.figures import studies as figures
from ste_lightning.theory import simulate
from ste_lightning.theory.studies import expand, rates, run, store, tables
from ste_lightning.theory.studies.cells import Cell, label, rule_of
from ste_lightning.theory.studies.measure import measure
from ste_lightning.theory.studies.noisy import recurrence_rows

BASE = {"m": 1, "trials": 16, "steps": 200}


@pytest.fixture(scope="module")
def phase(tmp_path_factory):
    grid = {
        "rule": ["identity", {"counterexample": "odd_sign"}],
        "n": [8, 16],
        "samples_per_input": [0.5, 1, 2, 4],
    }
    return run(expand(BASE, grid), tmp_path_factory.mktemp("phase"), workers=2, show=False)


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    cells = expand({**BASE, "n": 8, "burn_in": 20}, {"noise": [0.2, 1.0], "samples": [64, 256]})
    return run(cells, tmp_path_factory.mktemp("noisy"), workers=1, show=False)


def test_a_grid_becomes_cells():
    cells = expand({"n": 10, "m": 2}, {"samples_per_input": [0.1, 0.15, 3], "noise": [0.0, 0.5]})
    assert [c.settings["samples"] for c in cells] == [2, 2, 30, 30]  # doubles appear once
    assert len({c.key for c in cells}) == 4
    assert Cell({"n": 1, "m": 2}).key == Cell({"m": 2, "n": 1}).key
    with pytest.raises(ConfigurationError, match="Did you mean 'noise'"):
        expand({"n": 4, "samples": 4}, {"nosie": [0.1]})
    with pytest.raises(ConfigurationError, match="setting of a study 'threads'"):
        expand({"n": 4, "samples": 4, "threads": 2}, {"noise": [0.1]})
    with pytest.raises(ConfigurationError, match="set n and samples"):
        expand({"n": 4}, {"noise": [0.1]})


def test_rules_and_labels():
    assert label({"rule": "clipped", "width": 0.5}) == "clipped(width=0.5)"
    assert label({"counterexample": "tails"}) == "tails"
    assert label(3) == "3"
    assert rule_of({"rule": "clipped", "width": 0.5}).width == 0.5
    with pytest.raises(ConfigurationError, match="Did you mean 'odd_sign'"):
        rule_of({"counterexample": "odd"})


def test_a_cell_holds_what_simulate_returns():
    settings = {"n": 8, "m": 2, "samples": 30, "trials": 5, "steps": 50, "noise": 0.4}
    columns, provenance = measure(settings)
    result = simulate(**settings)
    assert columns["last"] == result.last_recovery.tolist()
    assert columns["escapes"] == result.escapes.tolist()
    assert columns["hamming"] == result.hamming.tolist()
    assert provenance["settings"] == settings
    assert "numba" in provenance["versions"]


def test_done_cells_are_kept_and_missing_ones_made(tmp_path, monkeypatch):
    cells = expand({**BASE, "n": 8}, {"samples": [8, 16, 32]})
    first = run(cells[:2], tmp_path, workers=1, show=False)
    made = []

    def spy(settings, threads=1):
        made.append(settings["samples"])
        return measure(settings, threads)

    monkeypatch.setattr("ste_lightning.theory.studies.runner.measure", spy)
    again = run(cells, tmp_path, workers=1)
    assert made == [32]
    assert repr([r.columns for r in again[:2]]) == repr([r.columns for r in first])
    columns, provenance = store.read(tmp_path / "results.parquet")
    assert len(columns["last"]) == 3 * 16
    assert provenance["cells"] == [c.key for c in cells]
    assert not list(tmp_path.rglob(".part-*"))


def test_an_error_in_one_cell_keeps_the_others(tmp_path):
    cells = expand({**BASE, "n": 8}, {"samples": [8, -1]})
    with pytest.raises(ConfigurationError, match="samples=-1"):
        run(cells, tmp_path, workers=1, show=False)
    assert (tmp_path / "cells" / f"{cells[0].key}.parquet").exists()


def test_a_damaged_file_is_named(tmp_path):
    path = tmp_path / "bad.parquet"
    path.write_bytes(b"nothing")
    with pytest.raises(ConfigurationError, match="delete it"):
        store.read(path)


def test_mixed_settings_share_a_column(tmp_path):
    rows = [({"rule": "relu"}, {"x": [1]}), ({"rule": {"rule": "clipped"}, "v": 2}, {"x": [2]})]
    table = store.join(rows)
    assert table["rule"] == ["relu", '{"rule": "clipped"}']
    store.write(tmp_path / "t.parquet", table, {"a": 1})
    assert store.read(tmp_path / "t.parquet") == (table, {"a": 1})


def test_without_pyarrow_the_remedy_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigurationError, match=r"ste-lightning\[study\]"):
        store.write(tmp_path / "t.parquet", {"x": [1]}, {})


def test_ray_gets_one_task_per_cell(tmp_path, monkeypatch):
    tasks = []

    def remote(num_cpus):
        def wrap(function):
            def submit(settings):
                tasks.append(settings["samples"])
                return (len(tasks), function, settings["samples"])

            return types.SimpleNamespace(remote=submit)

        return wrap

    by_samples = {c.settings["samples"]: c for c in expand({**BASE, "n": 8}, {"samples": [8, 16]})}
    fake = types.SimpleNamespace(
        init=lambda ignore_reinit_error: None,
        remote=remote,
        wait=lambda refs, num_returns: (refs[:1], refs[1:]),
        get=lambda ref: ref[1](by_samples[ref[2]].settings),
    )
    monkeypatch.setitem(sys.modules, "ray", fake)
    results = run(list(by_samples.values()), tmp_path, launcher="ray", show=False)
    assert sorted(tasks) == [8, 16]
    local = run(list(by_samples.values()), tmp_path / "local", show=False)
    assert repr([r.columns for r in results]) == repr([r.columns for r in local])
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigurationError, match="pip install ray"):
        run(list(by_samples.values()), tmp_path / "other", launcher="ray", show=False)
    with pytest.raises(ConfigurationError, match="unknown launcher"):
        run(list(by_samples.values()), tmp_path, launcher="slurm", show=False)


def test_thresholds_exponents_and_rows(phase):
    found = tables.thresholds(phase)
    assert [(t.group["rule"], t.n) for t in found] == [
        ("identity", 8),
        ("identity", 16),
        ("odd_sign", 8),
        ("odd_sign", 16),
    ]
    assert 4 < found[0].n50_last.value < found[1].n50_last.value < 64
    assert math.isnan(found[2].n50_last.value)
    (_, _, last), (_, _, averaged) = tables.exponents(found, smallest=8)
    assert 0.3 < last.value < 2.5
    assert 0.3 < averaged.value < 2.5
    assert any("n^" in str(row.get("N50 last")) for row in tables.phase_rows(phase, smallest=8))


def test_rules_that_fail_say_why(phase):
    small = [r for r in phase if r.settings["n"] == 8]
    rows = tables.rule_rows(small)
    assert [row["rule"] for row in rows] == ["identity", "odd_sign"]
    assert rows[0]["in expectation"] == "descends"
    assert "odd rule" in rows[1]["in expectation"]
    assert figures.rules_figure(small).axes


def test_recurrence_rows(noisy):
    rows = recurrence_rows(noisy)
    assert [(row["noise"], row["samples"]) for row in rows] == [
        ("0.2", "64"),
        ("0.2", "256"),
        ("1.0", "64"),
        ("1.0", "256"),
    ]
    assert float(rows[1]["correlation"]) > 0.7


def test_figures_are_drawn(phase, noisy, tmp_path):
    figures.phase_figure(phase, smallest=8).savefig(tmp_path / "phase.png")
    figures.recurrence_study_figure(noisy).savefig(tmp_path / "recurrence.png")
    cells = expand(
        {**BASE, "n": 8, "samples": 40},
        {"inputs": ["gaussian", "exponential"], "normalize": ["none", "standardize"]},
    )
    results = run(cells, tmp_path, workers=1, show=False)
    figures.normalization_figure(results).savefig(tmp_path / "normalization.png")
    assert len(rates.rate_rows(results)) == 4
    assert all(
        (tmp_path / f"{n}.png").stat().st_size > 1000
        for n in ("phase", "recurrence", "normalization")
    )


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
    capsys.readouterr()
    assert study.main(["+recipe=phase_diagrm"]) == 1
    assert "Did you mean 'phase_diagram'" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        study.main([])
    assert stopped.value.code == 1
    assert "+recipe=NAME" in capsys.readouterr().err
    torch.set_num_threads(threads)
