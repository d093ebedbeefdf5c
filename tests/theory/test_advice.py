"""The advisor: its shipped tables against fresh simulations, and what it refuses."""

import json
import math

import pytest
import torch

from ste_lightning.errors import ConfigurationError
from ste_lightning.theory import required_samples, simulate
from ste_lightning.theory.advice import table_rows
from ste_lightning.theory.studies import expand, run


@pytest.mark.parametrize(
    ("settings", "target"),
    [
        ({"n": 16, "m": 4, "rule": "relu"}, 0.95),
        ({"n": 24, "m": 4, "rule": "identity"}, 0.9),
        ({"n": 20, "m": 4, "rule": "triangular"}, 0.5),
        ({"n": 16, "m": 4, "rule": "identity", "noise": 0.5}, 0.9),
        ({"n": 128, "m": 4, "rule": "triangular"}, 0.9),
    ],
)
def test_the_advised_number_gives_the_target(settings, target):
    advice = required_samples(**settings, target=target)
    assert advice.low <= advice.samples <= advice.high
    assert int(advice) == advice.samples
    assert advice.measured == (settings["n"] in (16, 128))
    result = simulate(**settings, samples=advice.samples, trials=128, every=2000, seed=7)
    reached = result.last_recovery if advice.iterate == "last" else result.ergodic_recovery
    # Four standard errors of the check, and what the advice's own interval leaves open.
    slack = 4 * math.sqrt(target * (1 - target) / 128) + 0.06
    assert abs(float(reached.double().mean()) - target) < slack


def test_more_inputs_noise_and_certainty_need_more_samples():
    base = required_samples(16, 4, "relu").samples
    assert required_samples(32, 4, "relu").samples > base
    assert required_samples(16, 4, "relu", target=0.99).samples > base
    assert required_samples(16, 4, "relu", noise=0.5).samples > base
    assert required_samples(16, 4, "identity").samples < base
    assert "interpolated" in required_samples(17, 4).sure
    assert "measured" in required_samples(16, 4).sure


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"n": "x"}, "n='x' cannot be used: use a positive integer"),
        ({"n": 24.5}, "n=24.5"),
        ({"n": 4}, "n from 8 to 128 with m = 4; simulate it"),
        ({"n": 1000}, "n from 8 to 128 with m = 4; simulate it"),
        ({"m": 2}, "m = 1 and 4; simulate it"),
        ({"noise": 3.0}, "noise from 0 to 0.5"),
        ({"n": 60, "noise": 0.2}, "n from 8 to 32 with m = 4 and label noise; simulate it"),
        ({"n": 200, "m": 1}, "n from 8 to 128 with m = 1; simulate it"),
        ({"n": 257, "m": 1, "rule": "identity"}, "n from 8 to 256 with m = 1; simulate it"),
        ({"rule": "rely"}, "Did you mean 'relu'"),
        ({"target": 1.0}, "target=1.0"),
        ({"noise": 0.1, "iterate": "last"}, "leave w\\* again"),
        ({"iterate": "mean"}, "unknown iterate"),
        ({"noise": -1.0}, "noise=-1"),
    ],
)
def test_outside_the_table_it_refuses(wrong, message):
    with pytest.raises(ConfigurationError, match=message):
        required_samples(**{"n": 16, "m": 4, "rule": "relu", **wrong})


def test_tables_are_made_from_cells(tmp_path):
    cells = expand(
        {"m": 1, "n": 8, "trials": 24, "steps": 200, "rule": "identity"},
        {"noise": [0.0, 0.5], "samples": [3, 6, 12, 24, 48, 96]},
    )
    results = run(cells, tmp_path, workers=1, show=False)
    rows = table_rows(results, str(tmp_path / "table.json"))
    assert [(row["noise"], row["iterate"]) for row in rows] == [
        (0.0, "last"),
        (0.0, "averaged"),
        (0.5, "averaged"),
    ]
    kept = json.loads((tmp_path / "table.json").read_text())["rows"]
    assert 5 < math.exp(kept[0]["centre"]) < 15
    assert all(row["width"] > 0 for row in kept)
    table_rows([r for r in results if r.settings["noise"]], str(tmp_path / "table.json"))
    again = json.loads((tmp_path / "table.json").read_text())["rows"]
    assert again == kept  # of the same cells; fits of others stay
    covariance = torch.tensor(kept[0]["covariance"])
    assert covariance[0] * covariance[2] >= covariance[1] ** 2
    assert table_rows(results[:2]) == []  # no rise within the grid
