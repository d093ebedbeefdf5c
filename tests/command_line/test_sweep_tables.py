"""What a sweep's table says: intervals, differences to a baseline, three formats."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ste_lightning.errors import ConfigurationError
from ste_lightning.running.intervals import bootstrap, student_t
from ste_lightning.running.report import print_rows
from ste_lightning.running.sweep_rows import collect
from ste_lightning.running.sweep_table import flat, latex, lines, markdown, shown

ROWS = [
    {"rule": rule, "seed": seed, "accuracy": value, "seconds": 2.0}
    for rule, values in {"relu": (0.5, 0.6, 0.7), "swish_a": (0.55, 0.66, 0.77)}.items()
    for seed, value in enumerate(values)
]
VARIED = ["rule", "seed"]


@settings(deadline=None)
@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=12))
def test_student_t_is_scipys_interval(values: list[float]) -> None:
    found = student_t(values)
    assert found.mean == pytest.approx(statistics.fmean(values))
    if statistics.stdev(values) > 1e-9:
        low, high = stats.t.interval(
            0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values)
        )
        assert (found.low, found.high) == pytest.approx((low, high))


def test_the_bootstrap_covers_and_repeats() -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(100):
        found = bootstrap(rng.exponential(1.0, 30).tolist(), resamples=500)
        inside += found.low <= 1.0 <= found.high
    assert 85 <= inside <= 99  # a little short, as the bootstrap is
    assert bootstrap([1.0, 2.0, 4.0]) == bootstrap([1.0, 2.0, 4.0])
    assert bootstrap([3.0]) == student_t([3.0])
    assert str(student_t([3.25])) == "3.2500"
    assert str(student_t([64.0])) == "64"


def test_differences_are_taken_seed_by_seed() -> None:
    base, other = lines(ROWS, VARIED, ["accuracy"])
    assert base.settings == {"rule": "relu"}
    assert not base.differences
    assert other.values["accuracy"].mean == pytest.approx(0.66)
    difference = other.differences["accuracy"]
    assert difference == student_t([0.55 - 0.5, 0.66 - 0.6, 0.77 - 0.7])
    # Paired, so much closer than the runs themselves are.
    assert difference.high - difference.low < 0.1
    assert other.values["accuracy"].high - other.values["accuracy"].low > 0.4

    incomplete = [row for row in ROWS if (row["rule"], row["seed"]) != ("relu", 1)]
    _, other = lines(incomplete, VARIED, ["accuracy"])
    assert other.differences["accuracy"].runs == 2
    apart = [row | {"seed": row["seed"] + 10 * (row["rule"] == "relu")} for row in ROWS]
    assert not lines(apart, VARIED, ["accuracy"])[1].differences


def test_the_baseline_and_the_interval_are_chosen_by_name() -> None:
    first, second = lines(ROWS, VARIED, ["accuracy"], {"rule": "swish_a"}, "bootstrap")
    assert not second.differences
    assert first.differences["accuracy"].mean == pytest.approx(-0.06)
    with pytest.raises(ConfigurationError, match=r"rule=relu; rule=swish_a"):
        lines(ROWS, VARIED, ["accuracy"], {"rule": "tanh"})
    with pytest.raises(ConfigurationError, match="bootstrap"):
        lines(ROWS, VARIED, ["accuracy"], interval="bootstrp")


def test_rows_are_printed_with_all_their_columns(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows("All runs", [{"model.bits": 4, "loss": 2.5}, {"model.bits": 8}], ["a note"])
    words = capsys.readouterr().out.split()
    assert {"bits", "loss", "4", "2.5", "8", "note"} <= set(words)


def test_three_formats() -> None:
    table = lines(ROWS, VARIED, ["accuracy"])
    head = list(shown(table)[0])
    assert head == ["rule", "runs", "accuracy", "accuracy - baseline", "seconds"]
    text = markdown(table).splitlines()
    assert text[0] == "| rule | runs | accuracy | accuracy - baseline | seconds |"
    assert text[2].startswith("| relu | 3 | 0.6000 [0.3516, 0.8484] |  |")
    tex = latex(table)
    assert r"\begin{tabular}{lrrrr}" in tex
    assert r"swish\_a & 3 & 0.6600" in tex
    assert tex.count(r"\\") == 3
    rows = flat(table)
    assert rows[1]["accuracy difference"] == pytest.approx(0.06)
    assert rows[1]["accuracy pairs"] == 3
    assert {"accuracy low", "accuracy high", "seconds", "runs"} <= set(rows[0])
    single = shown(lines(ROWS[:1], [], ["accuracy"]))
    assert single == [{"accuracy": "0.5000", "seconds": "2"}]


def test_collecting_tells_settings_from_metrics_and_finds_what_is_missing(tmp_path: Path) -> None:
    for job, (rule, seed) in enumerate([("relu", 0), ("relu", 1), ("swish", 0)]):
        (tmp_path / str(job)).mkdir()
        results = {
            "seed": seed,
            "overrides": ["+recipe=x", f"rule={rule}", f"seed={seed}", "lr=0.1", "~summary.x"],
            "metrics": {"accuracy": 0.5 + 0.1 * job},
            "seconds": 9.0,
        }
        if job:  # older results have no seconds without warm-up
            results["training_seconds"] = 1.0
        (tmp_path / str(job) / "results.json").write_text(json.dumps(results))
    (tmp_path / "3").mkdir()
    (tmp_path / "4").mkdir()
    (tmp_path / "4" / "error.txt").write_text("lr=2 cannot be used\nmore\n")
    sweep = collect(tmp_path)
    assert sweep.varied == ["rule", "seed"]
    assert sweep.rows[0]["seconds"] == 9.0
    assert sweep.rows[1] == {"rule": "relu", "seed": 1, "accuracy": 0.6, "seconds": 1.0}
    assert sweep.failed == {tmp_path / "3": "", tmp_path / "4": "lr=2 cannot be used\nmore"}
