"""BinaryConnect, ProxConnect and ASkewSGD: who flips, and who rests where."""

import pytest
import torch

from ste_lightning.errors import ConfigurationError
from ste_lightning.theory import simulate
from ste_lightning.theory.bands import METHODS, _towards_band, train_in_bands
from ste_lightning.theory.claims import bands
from ste_lightning.theory.studies.runner import Result

SMALL = {"n": 8, "trials": 16, "steps": 300, "lr": 0.2}


@pytest.fixture(scope="module")
def study():
    cells = [
        {**SMALL, "method": method, "noise": noise, "samples": samples}
        for method in METHODS
        for noise in (0.0, 0.5)
        for samples in (12, 160)
    ]
    return [Result(cell, train_in_bands(**cell), 0.0) for cell in cells]


def test_straight_through_is_the_engine_s_training():
    columns = train_in_bands(**SMALL, samples=24, method="straight_through")
    result = simulate(
        n=8, m=1, samples=24, trials=16, steps=300, lr=0.2, rule="identity", init_scale=0.1
    )
    assert columns["last"] == result.last_recovery.tolist()


def test_weights_outside_their_band_return():
    x = torch.tensor([-0.2, 0.2, 1.4, 0.95, 0.2])
    move = torch.tensor([0.1, -0.1, 0.1, -0.03, 0.4])
    # bands of width 0.5: a weight at 0.2 must go outwards by 0.2 * 0.3 at least
    expected = torch.tensor([-0.06, 0.06, 0.1, -0.03, 0.4])
    torch.testing.assert_close(_towards_band(x, move, 0.5), expected)
    # and one beyond 1.3 inwards
    moved = _towards_band(torch.tensor([1.4]), torch.tensor([0.1]), 0.3)
    torch.testing.assert_close(moved, torch.tensor([-0.02]))


@pytest.mark.parametrize(("setting", "value"), [("method", "aske"), ("steps", 1), ("lr", 0.0)])
def test_wrong_settings_are_refused(setting, value):
    with pytest.raises(ConfigurationError, match=setting):
        train_in_bands(**{**SMALL, "samples": 8, setting: value})


def test_flips_vanish_in_bands_and_fixed_slopes_rest_elsewhere(study):
    found = [claim.measure(study) for claim in bands.CLAIMS]
    verdicts = [c.verdict(m) for c, m in zip(bands.CLAIMS, found, strict=True)]
    assert verdicts[:2] == ["holds within 0.01 of 1000 steps", "holds"]
    assert found[0].value == 0.0
    assert found[5].value < found[4].value  # the slope must grow
    assert verdicts[5] == "does not hold"
    assert bands.CLAIMS[2].measure([r for r in study if r.settings["method"] == "askew"]) is None
