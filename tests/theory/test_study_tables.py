"""Tables and figures of studies."""

import dataclasses
import math

import pytest

from ste_lightning.errors import ConfigurationError
from ste_lightning.figures import studies as figures
from ste_lightning.theory.monte_carlo import sample_coarse_gradient
from ste_lightning.theory.studies import expand, rates, run, tables
from ste_lightning.theory.studies.closed_forms import closed_form_rows
from ste_lightning.theory.studies.noisy import predicted_samples, scaling, scaling_rows
from ste_lightning.theory.studies.recurrence import recurrence_rows, recurrence_summary

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
    alone = [r for r in small if r.settings["rule"] == small[0].settings["rule"]]
    assert [t.get_text() for t in figures.rules_figure(alone).axes[0].get_yticklabels()] == [
        tables.label(small[0].settings["rule"])
    ]


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


def test_the_screen_has_a_row_per_setting(noisy):
    rows, long = recurrence_summary(noisy), recurrence_rows(noisy)
    assert [(row["noise"], row["samples"]) for row in rows] == [
        ("0.2", "64"), ("0.2", "256"), ("1.0", "64"), ("1.0", "256"),
    ]  # fmt: skip
    for kind, column in (("seen", "time at w*"), ("predicted", "time at w*, predicted")):
        assert [row[column] for row in rows] == [r["time at w*"] for r in long if r[""] == kind]
    seen = [row["other step sizes"] for row in rows]
    assert seen[:3] == ["", "", ""]
    assert float(seen[3]) == pytest.approx(float(rows[3]["time at w*"].split()[0]), abs=0.1)


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
