"""Beyond one bit: equal to the engine where they overlap, and able to learn where they do not."""

import pytest

from ste_lightning.errors import ConfigurationError
from ste_lightning.theory import simulate
from ste_lightning.theory.low_bit import train_low_bit

SMALL = {"n": 16, "m": 4, "samples": 20, "trials": 24, "steps": 300}


def test_one_bit_is_the_engine():
    ours = train_low_bit(**SMALL, rule="relu", seed=3)
    engine = simulate(**SMALL, rule="relu", seed=3, backend="torch")
    assert ours["last"] == engine.last_recovery.tolist()
    assert ours["ergodic"] == engine.ergodic_recovery.tolist()
    assert 0 < sum(ours["last"]) < 24


@pytest.mark.parametrize(("weights", "bits"), [("binary", 3), ("ternary", 1), ("ternary", 2)])
def test_other_grids_recover_their_teacher(weights, bits):
    settings = {**SMALL, "samples": 200, "trials": 8, "weights": weights, "bits": bits}
    rule = {"rule": "clipped_relu", "upper": 2.0}
    for name in ("identity", rule):
        got = train_low_bit(**settings, rule=name)
        assert sum(got["last"]) >= 7
        assert got["last"] == [d == 0 for d in got["distance"]]


def test_stopping_early_changes_nothing_but_time():
    settings = {**SMALL, "samples": 100, "weights": "ternary"}
    short, long = (train_low_bit(**{**settings, "steps": steps}) for steps in (300, 900))
    settled = [a and b for a, b in zip(short["last"], long["last"], strict=True)]
    assert sum(settled) == sum(short["last"]) > 12


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"weights": "tenary"}, "Did you mean 'ternary'"),
        ({"bits": 9}, "bits=9"),
        ({"steps": 0}, "steps=0"),
        ({"threshold": 0.0}, "threshold=0"),
    ],
)
def test_bad_settings_are_named(wrong, message):
    with pytest.raises(ConfigurationError, match=message):
        train_low_bit(**{**SMALL, **wrong})
