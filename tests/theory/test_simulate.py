"""What simulations show: statistics, the theory's phenomena, settings that are refused."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from ste_lightning import functional as SF
from ste_lightning.errors import ConfigurationError
from ste_lightning.models import BinaryTwoLayer
from ste_lightning.theory.prediction import predict_recurrence
from ste_lightning.theory.simulate import simulate

SMALL = {"n": 12, "m": 4, "samples": 50, "trials": 6, "steps": 60}


@dataclasses.dataclass(frozen=True)
class Odd(SF.Surrogate):
    """sgn(x), which cannot descend."""

    def derivative(self, x: torch.Tensor) -> torch.Tensor:
        return x.sign()


def test_statistics_are_those_of_the_trace():
    burn_in, steps = 30, 400
    result = simulate(**{**SMALL, "samples": 400, "steps": steps}, noise=0.8, burn_in=burn_in)
    # Not longer: the backends round differently, and in the end a sign flips a step earlier.
    short = {**SMALL, "samples": 400, "steps": 150, "noise": 0.8, "burn_in": burn_in}
    a, b = (simulate(**short, backend=backend) for backend in ("numba", "torch"))
    for name in ("return_histogram", "longest_return", "escapes"):
        assert torch.equal(getattr(a, name), getattr(b, name)), name
    assert result.escapes.sum() > 10
    for t in range(6):
        at = (result.hamming[t] == 0).tolist()
        first = at.index(True) if any(at) else -1
        lengths, left, escapes = [], None, 0
        for step in range(1, steps + 1):
            if at[step - 1] and not at[step]:
                left = step
                escapes += step > burn_in
            elif at[step] and not at[step - 1] and left is not None and left > burn_in:
                lengths.append(step - left)
        assert result.first_hit[t] == first
        assert result.escapes[t] == escapes
        assert result.returns[t] == len(lengths) == result.return_histogram[t].sum()
        assert result.fraction_at_teacher[t] == sum(at[burn_in + 1 :]) / (steps - burn_in)
        assert float(result.return_times[t]) == pytest.approx(np.mean(lengths))
        assert result.longest_return[t] == max(lengths)


def test_traces_can_be_thinned():
    full, thin = (simulate(**SMALL, noise=0.3, every=every) for every in (1, 7))
    assert thin.times.tolist() == list(range(0, 61, 7))
    assert torch.equal(thin.hamming, full.hamming[:, ::7])
    assert torch.equal(thin.loss, full.loss[:, ::7])
    assert torch.equal(full.loss[:, -1], full.final_loss)


def test_phase_transition_and_absorption():
    common = {"n": 32, "m": 4, "steps": 2000, "every": 2000}
    many, few = (simulate(**common, samples=N, trials=64) for N in (512, 32))
    assert many.last_recovery.all()
    assert many.ergodic_recovery.all()
    assert few.last_recovery.sum() <= 5
    assert (many.escapes == 0).all()
    assert (many.evaluations < 200).all()  # nothing is computed once the gradient is zero


def test_an_odd_rule_never_recovers():
    result = simulate(n=16, m=4, samples=512, trials=4, steps=100, rule=Odd())
    assert not result.last_recovery.any()


def test_dead_runs_are_seen_and_repaired_by_normalization():
    settings = {
        "n": 32,
        "m": 4,
        "samples": 512,
        "trials": 32,
        "inputs": "exponential",
        "every": 500,
    }
    raw, repaired = (
        simulate(**settings, steps=500, normalize=name) for name in ("none", "standardize")
    )
    assert raw.last_recovery.float().mean() <= 0.3
    assert (raw.dead == ~raw.last_recovery).float().mean() > 0.8
    assert not (raw.dead & raw.last_recovery).any()
    assert repaired.last_recovery.float().mean() >= 0.95


def test_a_weight_rule_that_has_shut_is_dead_too():
    settings = {"n": 8, "m": 2, "samples": 40, "trials": 8, "noise": 0.5, "v": "gaussian"}
    result = simulate(**settings, steps=300, lr=8.0, init_scale=0.3, weight_rule="clipped")
    shut = (result.latent.abs() > 1).all(1)
    assert 0 < shut.sum() < 8
    assert torch.equal(result.dead, shut)
    assert torch.equal(result.hamming[shut, -1], result.hamming[shut, -100])


def test_label_noise_recurs_as_predicted():
    result = simulate(
        n=16, m=4, samples=2048, trials=24, steps=3000, noise=0.5, burn_in=500, every=3000
    )
    predicted = predict_recurrence(result.teacher_gradient, result.teacher, result.v)
    fraction = result.fraction_at_teacher
    assert 0.5 <= fraction.mean() <= 0.72
    assert torch.corrcoef(torch.stack([fraction, predicted.fraction]))[0, 1] > 0.9
    assert (result.escapes >= 10).all()
    assert result.ergodic_recovery.all()


def test_momentum_leaves_the_teacher_and_returns():
    settings = {"n": 32, "m": 4, "samples": 512, "trials": 16, "steps": 600}
    result = simulate(**settings, momentum=0.9, init_scale=0.1)
    assert result.escapes.sum() > 0
    assert result.last_recovery.all()
    adam = simulate(**{**settings, "trials": 4, "steps": 300}, optimizer="adam", lr=0.1)
    assert (adam.first_hit >= 0).all()


def test_second_layer_trained_from_zero():
    result = simulate(
        n=32, m=4, samples=512, trials=8, steps=600, train_v=True, lr_v=0.2, every=600
    )
    assert result.last_recovery.all()
    torch.testing.assert_close(result.v, torch.full((8, 4), 0.5), atol=1e-3, rtol=0)


def test_given_second_layers():
    v = torch.tensor([0.5, -1.0, 2.0, 0.25])
    result = simulate(**SMALL, v=v)
    assert torch.equal(result.v, v.expand(6, 4))
    each = torch.arange(24.0).view(6, 4)
    assert torch.equal(simulate(**SMALL, v_init=each).v, each)
    random = simulate(**SMALL, v="gaussian", v_init="random")
    model = BinaryTwoLayer(n=12, m=4, trials=6, v="gaussian", v_init="random")
    torch.testing.assert_close(random.v, model.v)


def test_starts_of_the_second_layer():
    settings = {**SMALL, "v": "gaussian", "steps": 1, "train_v": True, "lr_v": 1e-9}
    teacher, opposite, drawn, ones = (
        simulate(**{**settings, **change}).v
        for change in (
            {"v_init": "teacher"},
            {"v_init": "opposite"},
            {"v_init": "gaussian"},
            {"v_init": "random", "v": "ones"},
        )
    )
    torch.testing.assert_close(opposite, -teacher)
    torch.testing.assert_close(drawn.norm(dim=1), torch.ones(6))
    torch.testing.assert_close(ones, torch.full((6, 4), 0.5))


def test_latent_statistics():
    result = simulate(**SMALL)
    statistics = result.latent_statistics
    assert (statistics["min"] <= statistics["mean"]).all()
    assert torch.equal(statistics["max"], result.latent.abs().amax(1))
    assert result.trials == 6


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"n": 0}, "n=0"),
        ({"m": 0}, "m=0"),
        ({"trials": 0}, "trials=0"),
        ({"samples": -1}, "samples=-1"),
        ({"samples": [8]}, "samples=.*\\[8\\]"),
        ({"n": 8.5}, "n=8.5"),
        ({"steps": 0}, "steps=0"),
        ({"noise": -1.0}, "noise=-1"),
        ({"lr": 0.0}, "lr=0"),
        ({"burn_in": 60}, "burn_in=60"),
        ({"every": 0}, "every=0"),
        ({"batch_size": 51}, "batch_size=51"),
        ({"memory": 0.0}, "memory=0"),
        ({"threads": 0}, "threads=0"),
        ({"init_scale": -1.0}, "init_scale=-1"),
        ({"v": "one"}, "Did you mean 'ones'"),
        ({"v": torch.ones(3)}, "must be m=4"),
        ({"v": torch.ones(2, 4)}, "trials=6 rows"),
        ({"v": torch.full((4,), math.nan)}, "finite"),
        ({"v_init": "zero"}, "Did you mean 'zeros'"),
        ({"rule": "rely"}, "Did you mean 'relu'"),
        ({"rule": {"rule": "clipped", "widht": 2.0}}, "Did you mean 'width'"),
        ({"inputs": "gausian"}, "Did you mean 'gaussian'"),
        ({"normalize": "white"}, "normalize"),
        ({"backend": "cuda"}, "unknown backend"),
        ({"backend": "numba", "batch_size": 5}, "minibatches"),
        ({"backend": "numba", "rule": "fourier"}, "this rule"),
    ],
)
def test_bad_settings_are_named(wrong, message):
    with pytest.raises(ConfigurationError, match=message):
        simulate(**{**SMALL, **wrong})
