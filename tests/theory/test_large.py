"""Updated sums: the bits of sums made anew, and the statistics of the engine."""

import numpy as np
import pytest

from ste_lightning.errors import ConfigurationError
from ste_lightning.models.streams import Stream, generator, normal
from ste_lightning.theory import simulate
from ste_lightning.theory.large import train_large


def reference(n, samples, trial, steps, lr, scale, seed):
    """Everything recomputed in every step, in int64."""
    drawn = generator(seed, Stream.INPUTS, trial).standard_normal((samples, n), dtype=np.float32)
    Z = np.rint(drawn * 4096).astype(np.int64)
    teacher = generator(seed, Stream.TEACHER, trial).choice([-1, 1], n)
    x = scale * normal(seed, Stream.WEIGHT, 1, n, trial).numpy()[0]
    y = Z @ teacher > 0
    step = np.float32(lr / (samples * 4096))
    signs, total, flips = np.where(x >= 0, 1, -1), np.zeros(n, np.int64), 0
    hit = 0 if (signs == teacher).all() else -1
    for t in range(1, steps + 1):
        r = (Z @ signs > 0).astype(np.int64) - y
        x = x - step * (r @ Z).astype(np.float32)
        flips += int((np.where(x >= 0, 1, -1) != signs).sum())
        signs = np.where(x >= 0, 1, -1)
        total += signs
        hit = t if hit < 0 and (signs == teacher).all() else hit
    wrong = int((signs != teacher).sum())
    averaged = bool((np.where(total >= 0, 1, -1) == teacher).all())
    return [wrong == 0, averaged, hit, wrong, flips]


@pytest.mark.parametrize("samples", [8, 300])
def test_updating_gives_the_bits_of_recomputing(samples):
    got = train_large(n=24, samples=samples, trials=6, steps=150, lr=0.7, init_scale=0.2, seed=5)
    names = ("last", "ergodic", "first_hit", "distance", "flips")
    for trial in range(6):
        ours = [got[name][trial] for name in names]
        assert ours == reference(24, samples, trial, 150, 0.7, 0.2, 5)
    assert any(got["last"]) == (samples == 300)


def test_recovers_as_often_as_the_engine():
    settings = {"n": 32, "samples": 47, "trials": 200, "steps": 400, "seed": 1}
    ours = sum(train_large(**settings)["last"])
    engine = int(simulate(m=1, rule="identity", **settings).last_recovery.sum())
    # The same data but for rounding: trajectories part, rates do not.
    assert 60 < engine < 140
    assert abs(ours - engine) < 20


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"n": 0}, "n=0"), ({"lr": 0.0}, "lr=0"), ({"init_scale": -1.0}, "init_scale=-1")],
)
def test_bad_settings_are_named(wrong, message):
    with pytest.raises(ConfigurationError, match=message):
        train_large(**{"n": 8, "samples": 8, "trials": 1, "steps": 2, **wrong})
