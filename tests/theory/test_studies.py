"""Studies: the grid, what is stored and reused, tables, figures, and the command."""

import dataclasses
import json
import math
import platform
import sys
import types
from importlib.metadata import version

import pytest
import torch

from ste_lightning import study
from ste_lightning.errors import ConfigurationError
from ste_lightning.figures import studies as figures
from ste_lightning.theory import simulate
from ste_lightning.theory.monte_carlo import sample_coarse_gradient
from ste_lightning.theory.studies import expand, rates, run, store, tables
from ste_lightning.theory.studies.cells import Cell, label, rule_of, shrink
from ste_lightning.theory.studies.closed_forms import closed_form_rows
from ste_lightning.theory.studies.measure import measure
from ste_lightning.theory.studies.noisy import predicted_samples, scaling, scaling_rows
from ste_lightning.theory.studies.recurrence import recurrence_rows

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
    parts = {
        "noise": {"noise": [0.2, 1.0], "samples": [64, 256]},
        "step": {"noise": [1.0], "samples": [256], "lr": [0.1]},
    }
    base = {**BASE, "experiment": "recurrence", "n": 8, "steps": 2000, "burn_in": 200}
    cells = expand(base, {}, parts)
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
    assert provenance["machine"]["platform"] == platform.platform()
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
    kinds = ["seen", "predicted", "correlation", "decoupled"]
    again = ["seen", "seen, step size 0.1", "predicted", "correlation", "decoupled", "two runs"]
    assert [row[""] for row in rows] == [*kinds * 3, *again, *kinds[2:], *kinds[2:]]
    assert [(row["noise"], row["samples"]) for row in rows if row[""] == "decoupled"] == [
        ("0.2", "64"),
        ("0.2", "256"),
        ("1.0", "64"),
        ("1.0", "256"),
        ("all", "64"),
        ("all", "256"),
    ]
    quantities = ("time at w*", "escapes/1000", "return time")
    coupled, decoupled = rows[-2:]
    for quantity in quantities:
        found, plain = (float(row[quantity].split()[0]) for row in (coupled, decoupled))
        assert found > max(plain, 0.85), quantity
    runs = next(row for row in rows if row[""] == "two runs")
    assert all(float(runs[quantity].split()[0]) > 0.9 for quantity in quantities)


def test_without_differences_there_is_no_correlation(noisy):
    columns = noisy[0].columns
    equal = {**columns, "fraction": [0.5] * len(columns["fraction"])}
    rows = recurrence_rows([dataclasses.replace(noisy[0], columns=equal)])
    assert [row["time at w*"] for row in rows if row[""] == "correlation"] == [""]


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


def test_the_gap_and_windows(tmp_path):
    grid = {"rule": [{"rule": "clipped", "width": w} for w in (0.2, 0.5)]}
    parts = {
        "a": {"n": [8], "samples": [4, 8, 16, 32], "trials": [24]},
        "b": {"n": [16], "samples": [8, 16, 32, 64], "trials": [12]},
    }
    results = run(expand({"m": 4, "steps": 200}, grid, parts), tmp_path, workers=1, show=False)
    one = [r for r in results if r.settings["rule"]["width"] == 0.5]
    rows = tables.gap_rows(one)
    assert [row["n"] for row in rows] == [8, 16]
    assert rows[0]["exponent last"] == ""
    assert 0 < float(str(rows[1]["exponent last"]).split()[0]) < 3
    verdicts = {(row["n"], row["rule"]): row[""] for row in tables.window_rows(results)}
    assert len(verdicts) == 4
    assert list(verdicts.values()).count("best") == 2
    figures.gap_figure(one).savefig(tmp_path / "gap.png")
    figures.window_figure(results).savefig(tmp_path / "window.png")


def test_an_unknown_threshold_is_a_bound_in_tables_and_figures(tmp_path):
    grid = {"rule": [{"rule": "clipped", "width": 0.5}], "n": [8, 16], "samples": [2, 3]}
    results = run(expand({**BASE, "m": 4}, grid), tmp_path, workers=1, show=False)
    row = tables.gap_rows(results)[-1]
    assert (row["N50 last"], row["ratio"], row["exponent last"]) == ("> 3", "", "")
    assert [(row["N50 last"], row[""]) for row in tables.window_rows(results)] == [
        ("> 3", "unknown"),
        ("> 3", "unknown"),
    ]
    for draw in (figures.gap_figure, figures.phase_figure, figures.window_figure):
        draw(results).savefig(tmp_path / "bounds.png")


def test_a_width_beyond_the_samples_is_shown_as_a_bound(tmp_path):
    grid = {"rule": [{"rule": "clipped", "width": w} for w in (0.5, 3.0)]}
    base = {"m": 4, "n": 32, "steps": 300, "trials": 48}
    cells = expand(base, {**grid, "samples": [18, 24, 31, 36]})
    results = run(cells, tmp_path, workers=1, show=False)
    narrow, wide = tables.window_rows(results)
    assert narrow[""] == "best"
    assert (wide["N50 last"], wide[""]) == ("> 36", "worse")
    assert float(wide["times the best"].removeprefix("> ")) > 1
    figures.window_figure(results).savefig(tmp_path / "window.png")


def test_both_layers_optimizers_and_their_figures(tmp_path):
    base = {"n": 8, "samples": 200, "trials": 8, "steps": 200}
    cells = expand(
        {**base, "m": 1, "train_v": True, "lr_v": 0.2}, {"v_init": ["zeros", "opposite"]}
    )
    results = run(cells, tmp_path, workers=1, show=False)
    rows = rates.outcome_rows(results)
    assert rows[0]["w*"].startswith("1.00")
    assert float(rows[1]["-w*"][:4]) > 0
    figures.outcome_figure(results).savefig(tmp_path / "outcomes.png")
    parts = {"sgd": {"momentum": [0.0, 0.9]}, "adam": {"optimizer": ["adam"], "lr": [0.1]}}
    cells = expand({**base, "m": 4, "every": 2}, {}, parts)
    results = run(cells, tmp_path, workers=1, show=False)
    rows = rates.optimizer_rows(results)
    assert [row["reached w*"][:4] for row in rows[:2]] == ["1.00", "1.00"]
    assert rows[0]["left it"].startswith("0.00")
    assert float(rows[1]["left it"][:4]) > 0
    figures.optimizer_figure(results).savefig(tmp_path / "optimizers.png")


def test_noise_scaling_meets_its_prediction(tmp_path):
    base = {"m": 1, "rule": "identity", "trials": 32, "steps": 1500, "burn_in": 200}
    grid = {"n": [8, 12], "noise": [1.0], "samples": [48, 96, 192, 384, 768, 1536]}
    results = run(expand(base, grid), tmp_path, workers=1, show=False)
    for s in scaling(results):
        assert s.half_time.value == pytest.approx(s.half_time_predicted, rel=0.3)
        assert s.n50.value < s.half_time.value
    rows = scaling_rows(results)
    assert rows[-1]["half the time at w*"].startswith("n^")
    figures.scaling_figure(results).savefig(tmp_path / "scaling.png")
    assert predicted_samples(lambda N: N / (N + 100)) == pytest.approx(100, rel=0.02)


def test_closed_forms_against_monte_carlo(tmp_path):
    base = {"experiment": "coarse_gradient", "n": 3, "m": 2, "samples": 20_000}
    cells = expand(base, {"rule": ["relu", "tanh"], "v": ["teacher", "other"], "angle": [40, 120]})
    results = run(cells, tmp_path, workers=1, show=False)
    rows = closed_form_rows(results)
    assert [(row["rule"], row["quantities"], row["within 4"]) for row in rows] == [
        ("relu", 16, "1.000"),
        ("tanh", 16, "1.000"),
    ]
    figures.population_figure(results).savefig(tmp_path / "population.png")
    for wrong in ({"n": 1}, {"samples": 1}, {"v": "none"}):
        with pytest.raises(ConfigurationError):
            sample_coarse_gradient(**{"samples": 10, "angle": 30, **wrong})


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
    assert study.main(["+recipe=phase_diagrm"]) == 1
    assert "Did you mean 'phase_diagram'" in capsys.readouterr().err
    assert study.main([]) == 1
    assert "+recipe=NAME" in capsys.readouterr().err
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
    torch.set_num_threads(threads)
