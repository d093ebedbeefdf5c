"""Rules on the weights against the identity after the change of start and step size."""

import pytest
import torch

from ste_lightning import functional as SF
from ste_lightning.errors import ConfigurationError
from ste_lightning.figures.studies import disguise_figure
from ste_lightning.theory.claims import disguise
from ste_lightning.theory.disguise import Stretch, compare_rule
from ste_lightning.theory.studies.disguise import disguise_rows, disguises
from ste_lightning.theory.studies.runner import Result

SMALL = {"n": 8, "samples": 96, "trials": 6}
MASK = {"rule": "clipped", "width": 0.3}


def test_the_change_of_variables_is_the_closed_form():
    x = torch.tensor([-0.9, -0.3, 0.0, 0.5, 0.95], dtype=torch.float64)
    triangular, tanh = (Stretch(SF.surrogate(name)) for name in ("triangular", "tanh"))
    expected = -(1 - x.abs()).log() * x.sign()
    torch.testing.assert_close(triangular(x), expected, atol=1e-4, rtol=1e-4)
    expected = x / 2 + (2 * x).sinh() / 4  # of 1 / tanh' = cosh^2
    torch.testing.assert_close(tanh(x), expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(tanh.inverse(tanh(x)), x, atol=1e-4, rtol=0)
    assert triangular.edge == pytest.approx(1.0, abs=1e-4)
    assert float(triangular.inverse(torch.tensor([99.0], dtype=torch.float64))) <= 1.0
    with pytest.raises(ConfigurationError, match=r"f'\(0\) > 0"):
        Stretch(SF.surrogate("relu"))


@pytest.mark.parametrize(
    ("setting", "value"), [("optimizer", "adm"), ("lr", 0.0), ("beta2", 1.0), ("time", -1.0)]
)
def test_wrong_settings_are_refused(setting, value):
    with pytest.raises(ConfigurationError, match=setting):
        compare_rule(**SMALL, **{setting: value})


@pytest.fixture(scope="module")
def study():
    grid = [
        {"rule": rule, "optimizer": optimizer, "lr": lr, "time": time, "beta2": 0.9}
        for optimizer, time, steps in (("sgd", 6.0, (10.0, 0.3, 0.1)), ("adam", 1.2, (0.1, 0.01)))
        for rule in ("tanh", "clipped", MASK)
        for lr in steps
    ]
    return [Result({**SMALL, **s}, compare_rule(**SMALL, **s), 0.0) for s in grid]


def test_small_steps_are_the_identity_in_disguise_and_masks_under_adam_are_not(study):
    found = {(d.rule, d.optimizer): d for d in disguises(study)}
    tanh = found["tanh", "sgd"]
    assert tanh.lr == [0.1, 0.3, 10.0]
    assert tanh.distance[0].high < 0.03 < tanh.unchanged[0].value
    assert tanh.distance[2].value > 10 * tanh.distance[0].value
    assert tanh.exponent.value > 0.4
    mask = found["clipped(width=0.3)", "adam"]
    assert mask.distance[0].low > 0.1
    assert mask.outside[0] > 0.05
    assert found["tanh", "adam"].distance[0].value < 0.5 * mask.distance[0].value


def test_identity_is_its_own_disguise():
    columns = compare_rule(**SMALL, rule="identity", lr=1.0)
    # the table of F is interpolated
    assert max(columns["distance"]) < 1e-9
    assert columns["unchanged"] == [0.0] * 6
    assert columns["signs"] == [0.0] * 6


def test_rows_figure_and_claims(study):
    rows = disguise_rows(study)
    assert len(rows) == 6
    assert rows[0]["steps"] == "0.1 to 10"
    left, right = disguise_figure(study).axes
    assert len(left.lines) == 3 + 1 + 3  # curves, the slope, unchanged starts
    assert len(right.lines) == 3 + 1
    for claim in disguise.CLAIMS:
        found = claim.measure(study)
        # a memory of 0.99 was not run
        assert (found is None) == ("β₂" in claim.text)
    assert disguise.CLAIMS[3].verdict(disguise.CLAIMS[3].measure(study)) == "holds"
    adam = [r for r in study if r.settings["optimizer"] == "adam"]
    descent = [r for r in study if r.settings["optimizer"] == "sgd"]
    for claim in disguise.CLAIMS:
        nothing = claim.measure(adam) is None, claim.measure(descent) is None
        assert any(nothing)
