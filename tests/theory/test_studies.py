"""Studies: the grid, what is stored and reused, and who runs it."""

import json
import platform
import sys
import types
from importlib.metadata import version

import pytest

from ste_lightning.errors import ConfigurationError
from ste_lightning.theory import simulate
from ste_lightning.theory.studies import expand, run, store
from ste_lightning.theory.studies.cells import Cell, label, rule_of, shrink
from ste_lightning.theory.studies.measure import measure

BASE = {"m": 1, "trials": 16, "steps": 200}


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


def test_parts_are_grids_of_their_own():
    parts = {"small": {"n": [4], "samples": [8, 16]}, "large": {"n": [8], "samples": [99]}}
    cells = expand({"m": 1}, {"rule": ["relu", "identity"]}, parts)
    assert [(c.settings["n"], c.settings["samples"]) for c in cells[::2]] == [
        (4, 8),
        (4, 8),
        (8, 99),
    ]
    assert len(cells) == 6
    with pytest.raises(ConfigurationError, match=r"parts\.large\.n"):
        expand({"samples": 4}, {}, {"large": {"n": []}})
    with pytest.raises(ConfigurationError, match="unknown experiment"):
        expand({"experiment": "simulation"}, {"n": [4]})
    with pytest.raises(ConfigurationError, match="Did you mean 'bits'"):
        expand({"experiment": "low_bit", "samples": 4}, {"n": [4], "bit": [1]})


def test_a_small_version_has_fewer_trials_and_no_large_n():
    cells = shrink(expand({**BASE, "trials": 96}, {"n": [8, 32, 64], "samples": [4, 8]}))
    assert {(c.settings["n"], c.settings["trials"]) for c in cells} == {(8, 12), (32, 12)}
    assert shrink(expand({"n": 8, "samples": 4}, {}))[0].settings["trials"] == 8
    assert shrink(expand({"n": 8, "samples": 4, "trials": 3}, {}))[0].settings["trials"] == 3
    wider = shrink(expand({"samples": 4}, {"n": [8, 128, 256]}), largest=128)
    assert [cell.settings["n"] for cell in wider] == [8, 128]
    cells = shrink(expand({"samples": 4}, {"n": [64, 128]}))
    assert [c.settings["n"] for c in cells] == [64]


def test_rules_and_labels():
    assert label([0.5, -0.5]) == "(0.5, -0.5)"
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
    assert provenance["versions"]["torch"] == version("torch")
    assert provenance["machine"]["platform"] == f"{platform.system()} {platform.machine()}"
    # Settings and defaults together say everything that decides the numbers.
    everything = {**provenance["defaults"], **settings}
    assert everything["seed"] == 0
    assert everything["rule"] == "relu"
    repeated = simulate(**everything, backend="numba")
    assert repeated.latent.equal(result.latent)
    json.dumps(provenance)


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


def test_all_damaged_cells_are_named_before_any_other_runs(tmp_path):
    cells = expand({**BASE, "n": 8}, {"samples": [8, 9, 10]})
    (tmp_path / "cells").mkdir()
    broken = [tmp_path / "cells" / f"{cell.key}.parquet" for cell in cells[:2]]
    for path in broken:
        path.write_bytes(b"nothing")
    with pytest.raises(ConfigurationError) as caught:
        run(cells, tmp_path, workers=1, show=False)
    assert all(str(path) in str(caught.value) for path in broken)
    assert len(list((tmp_path / "cells").iterdir())) == 2


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

    def remote(num_cpus, max_retries):
        assert max_retries == -1

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
        cluster_resources=lambda: {"CPU": 2.0},
        wait=lambda refs, num_returns: (refs[:1], refs[1:]),
        get=lambda ref: ref[1](by_samples[ref[2]].settings),
        exceptions=types.SimpleNamespace(RayTaskError=RuntimeError),
    )
    monkeypatch.setitem(sys.modules, "ray", fake)
    results = run(list(by_samples.values()), tmp_path, launcher="ray", show=False)
    assert sorted(tasks) == [8, 16]
    local = run(list(by_samples.values()), tmp_path / "local", show=False)
    assert repr([r.columns for r in results]) == repr([r.columns for r in local])
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigurationError, match=r"ste-lightning\[ray\]"):
        run(list(by_samples.values()), tmp_path / "other", launcher="ray", show=False)
    with pytest.raises(ConfigurationError, match="unknown launcher"):
        run(list(by_samples.values()), tmp_path, launcher="slurm", show=False)


def test_a_ray_cluster_gives_what_threads_give(tmp_path):
    ray = pytest.importorskip("ray")
    cells = expand({**BASE, "n": 8}, {"samples": [8, 16, 32]})
    bad = Cell({**BASE, "n": 8, "samples": 8, "lr": -1.0})
    ray.init(num_cpus=2, include_dashboard=False)
    try:
        with pytest.raises(ConfigurationError, match=r"lr=-1\.0"):
            run([bad, *cells[:2]], tmp_path, workers=2, launcher="ray", show=False)
        made = {path: path.stat().st_mtime_ns for path in (tmp_path / "cells").iterdir()}
        assert made  # what was in work beside the failure is kept
        results = run(cells, tmp_path, launcher="ray", show=False)
        assert all(path.stat().st_mtime_ns == time for path, time in made.items())
    finally:
        ray.shutdown()
    again = run(cells, tmp_path, launcher="ray", show=False)  # all is done: no cluster needed
    assert not ray.is_initialized()
    local = run(cells, tmp_path / "local", show=False)
    assert repr([r.columns for r in results]) == repr([r.columns for r in local])
    assert repr([r.columns for r in again]) == repr([r.columns for r in local])
