"""One weight between two levels, one unit, and networks with k-level weights."""

import pytest
import torch

from ste_lightning.errors import ConfigurationError
from ste_lightning.figures.studies import curves_figure, swing_figure
from ste_lightning.theory.grids import GAUSSIAN_STEPS, nearest
from ste_lightning.theory.oscillating_networks import train_oscillating_network
from ste_lightning.theory.oscillation import Freezer, train_oscillating
from ste_lightning.theory.studies import expand, run
from ste_lightning.theory.studies.means import mean_rows
from ste_lightning.theory.studies.swings import swing_rows, swinging


@pytest.mark.parametrize("levels", GAUSSIAN_STEPS)
def test_the_distance_is_best_for_normal_numbers(levels):
    x = torch.linspace(-6, 6, 120_001, dtype=torch.float64)
    density = torch.exp(-x.square() / 2)

    def error(distance):
        value = (nearest(x, levels, distance) - (levels - 1) / 2) * distance
        return float(((x - value).square() * density).mean())

    best = GAUSSIAN_STEPS[levels]
    assert error(best) < min(error(best * 0.995), error(best * 1.005))


def test_levels_are_symmetric_and_clipped():
    x = torch.tensor([-9.0, -0.4, 0.4, 9.0])
    assert nearest(x, 3, 1.0).tolist() == [0, 1, 1, 2]
    assert nearest(x, 4, 1.0).tolist() == [0, 1, 2, 3]
    with pytest.raises(ConfigurationError, match="levels"):
        nearest(x, 1, 1.0)


@pytest.fixture(scope="module")
def weight(tmp_path_factory):
    base = {"experiment": "oscillation", "n": 1, "samples": 32, "trials": 40, "levels": 16}
    base |= {"steps": 3000, "lr": 0.05}
    parts = {
        "qat": {"method": ["qat"], "strength": [0.0], "lr": [0.05, 0.01]},
        "others": {"method": ["regularized", "dampened"], "strength": [0.3]},
    }
    return run(expand(base, {}, parts), tmp_path_factory.mktemp("w"), workers=1, show=False)


def test_one_weight_does_what_the_closed_form_says(weight):
    assert {r.settings["method"] for r in weight} == {"qat", "regularized", "dampened"}
    for r in weight:
        found = swinging(r)
        agree = (found["changes"] == 0) == (found["expected_rests"] > 0)
        assert float(agree.double().mean()) > 0.9  # at the edge they take long to decide
        moves = found["moves"].bool()
        for name in ("up", "changes"):
            off = (found[name] - found[f"expected_{name}"])[moves].abs()
            assert float(off.mean()) < 0.02
    qat, slow = (swinging(r) for r in weight[:2])
    # A smaller step narrows the band, and the weight changes level as often as before.
    assert float((qat["changes"] - slow["changes"]).abs().median()) < 0.01
    rows = swing_rows(weight)
    assert rows[0]["rest"] == "0.00"
    assert float(rows[2]["rest"]) > 0.4
    assert len(swing_figure(weight).axes) == 4


def test_what_is_pushed_is_qat_when_the_push_is_the_curvature():
    base = {"n": 1, "samples": 32, "trials": 8, "steps": 50, "seed": 4}
    data = train_oscillating(**base, method="qat")
    strength = 1.0
    # Strength is in units of the mean curvature 1; this sample's is its own.
    pushed = train_oscillating(**base, method="regularized", strength=strength)
    assert torch.tensor(pushed["up"]).sub(torch.tensor(data["up"])).abs().mean() < 0.15


def test_rounding_has_half_of_qats_loss_for_independent_inputs():
    base = {"n": 24, "samples": 400, "trials": 12, "steps": 300, "levels": 16}
    qat = train_oscillating(**base, method="qat")
    rounded = train_oscillating(**base, method="regularized")
    damped = train_oscillating(**base, method="dampened", strength=0.5)
    ratio = sum(qat["loss"]) / sum(rounded["loss"])
    assert 1.6 < ratio < 2.4
    assert sum(damped["changes"]) < 0.2 * sum(qat["changes"])
    assert not any(rounded["changes"][:1]) or max(rounded["changes"]) < 0.01


def test_frozen_weights_stay_on_the_level_they_are_at_most():
    freezer = Freezer(torch.zeros(1, 2), momentum=0.5, often=0.3)
    for codes in ([1.0, 0.0], [0.0, 0.0], [1.0, 0.0], [0.0, 0.0]):
        held = freezer.step(torch.tensor([codes]))
    assert freezer.frozen.tolist() == [[True, False]]
    level = float(held[0, 0])
    assert float(freezer.step(torch.tensor([[1.0 - level, 1.0]]))[0, 0]) == level
    assert float(freezer.step(torch.tensor([[1.0 - level, 1.0]]))[0, 1]) == 1.0


def test_step_units_and_freezing_run():
    base = {"n": 6, "samples": 60, "trials": 4, "steps": 80, "model": "step", "correlation": 0.5}
    frozen = train_oscillating(**base, method="frozen")
    free = train_oscillating(**base, method="qat")
    assert sum(frozen["changes"]) < sum(free["changes"])
    assert all(0 <= loss <= 1 for loss in frozen["loss"])


def test_on_digits_qat_beats_rounding(tmp_path):
    base = {"experiment": "oscillating_network", "n": 12, "trials": 4, "steps": 150}
    parts = {
        "qat": {"method": ["qat", "frozen"], "strength": [0.0]},
        "push": {"method": ["regularized"], "strength": [0.0]},
        "pull": {"method": ["dampened"], "strength": [0.01]},
    }
    cells = expand({**base, "samples": 1000}, {"levels": [3]}, parts)
    results = run(cells, tmp_path, workers=1, show=False)
    loss = {r.settings["method"]: sum(r.columns["loss"]) for r in results}
    changes = {r.settings["method"]: sum(r.columns["changes"]) for r in results}
    assert loss["qat"] < 0.7 * loss["regularized"]
    assert max(changes["dampened"], changes["frozen"]) < changes["qat"]
    assert len(mean_rows(results, ["loss", "nothing"])) == 4
    figure = curves_figure(results, x="levels", y="loss", curves=["method"], best="low")
    assert len(figure.axes) == 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"method": "rounded"}, "method"),
        ({"model": "tanh"}, "model"),
        ({"levels": 5}, "levels"),
        ({"correlation": 1.0}, "correlation"),
        ({"strength": -1.0}, "strength"),
    ],
)
def test_bad_settings_are_named(wrong, message):
    with pytest.raises(ConfigurationError, match=message):
        train_oscillating(**{"n": 2, "samples": 4, "trials": 1, "steps": 2, **wrong})
    if message in ("method", "levels"):
        with pytest.raises(ConfigurationError, match=message):
            train_oscillating_network(**{"n": 2, "samples": 100, "trials": 1, "steps": 2, **wrong})
