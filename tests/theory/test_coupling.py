"""Coupled recurrence: the linearized drift, the shares of time, the walk, and training."""

from __future__ import annotations

import math

import pytest
import torch

from ste_lightning.data import TeacherStudent
from ste_lightning.errors import ConfigurationError
from ste_lightning.functional import surrogate
from ste_lightning.models.coarse_gradient import evaluate
from ste_lightning.theory import (
    LinearDrift,
    linear_drift,
    predict_coupled_recurrence,
    predict_recurrence,
    simulate,
)
from ste_lightning.theory.statistics import correlation


@pytest.fixture(scope="module")
def data() -> TeacherStudent:
    return TeacherStudent(n=6, m=3, samples=300, trials=4, noise=1.0, seed=2)


def test_single_flips_give_the_matrix(data: TeacherStudent) -> None:
    drift = linear_drift(*data.train_data, *data.teacher, rounds=0)
    sign = data.teacher[0].sign()
    for j in range(6):
        flipped = sign.clone()
        flipped[:, j] *= -1
        there = evaluate(*data.train_data, flipped, data.teacher[1], surrogate("relu"))[1] * sign
        torch.testing.assert_close(drift.adverse - drift.matrix[:, :, j], there.double())


@pytest.mark.parametrize("rounds", [0, 3])
def test_shares_of_time_solve_the_complementarity_problem(
    data: TeacherStudent, rounds: int
) -> None:
    drift = linear_drift(*data.train_data, *data.teacher, rounds=rounds)
    p = drift.occupation
    left = drift.adverse - (drift.matrix @ p[..., None])[..., 0]
    assert bool(((p >= 0) & (p <= 1)).all())
    assert 0 < int((p > 0).sum()) < p.numel()
    assert float(left[p < 1].max()) < 1e-8
    assert float(left[p > 0].min()) > -1e-8


def test_an_exactly_linear_drift_is_found() -> None:
    # The identity's noise part does not depend on w, and with many samples the rest is linear.
    data = TeacherStudent(n=5, m=1, samples=100_000, trials=2, noise=0.5)
    alone, fitted = (
        linear_drift(*data.train_data, *data.teacher, rule="identity", rounds=r) for r in (0, 3)
    )
    expected = 2 / math.sqrt(2 * math.pi * 5) * torch.eye(5, dtype=torch.float64)
    torch.testing.assert_close(alone.matrix, expected.expand(2, 5, 5), atol=0.01, rtol=0)
    torch.testing.assert_close(fitted.matrix, expected.expand(2, 5, 5), atol=0.01, rtol=0)


def test_without_coupling_the_walk_is_the_product_formula() -> None:
    adverse = torch.tensor([[math.sqrt(2) / 7, math.sqrt(3) / 17, -0.4]], dtype=torch.float64)
    p = adverse.clamp(min=0)
    drift = LinearDrift(adverse.float(), adverse, torch.eye(3, dtype=torch.float64)[None], p)
    walk = predict_coupled_recurrence(drift, starts=32, steps=4000)
    v = torch.tensor([[1.0]])
    formula = predict_recurrence(adverse / 2.5066282746 / math.sqrt(3), torch.ones(1, 3), v)
    torch.testing.assert_close(formula.rotation, p)
    torch.testing.assert_close(walk.fraction, drift.fraction, atol=0.003, rtol=0)
    torch.testing.assert_close(walk.fraction, formula.fraction, atol=0.003, rtol=0)
    torch.testing.assert_close(walk.escape_rate, formula.escape_rate, atol=0.003, rtol=0)
    torch.testing.assert_close(walk.return_time, formula.return_time, atol=0.02, rtol=0)


def test_no_drift_no_escape() -> None:
    nothing = torch.zeros(2, 4, dtype=torch.float64)
    eye = torch.eye(4, dtype=torch.float64).expand(2, 4, 4)
    walk = predict_coupled_recurrence(LinearDrift(nothing, nothing, eye, nothing))
    assert bool((walk.fraction == 1).all() & (walk.escape_rate == 0).all())
    assert bool(walk.return_time.isnan().all())


@pytest.mark.parametrize("rule", ["relu", "identity"])
def test_each_data_set_is_predicted(rule: str) -> None:
    settings = {"n": 8, "m": 2, "samples": 768, "trials": 24, "noise": 0.7, "seed": 3}
    seen = simulate(**settings, rule=rule, steps=10_000, burn_in=500)
    data = TeacherStudent(**settings)
    found = predict_coupled_recurrence(linear_drift(*data.train_data, *data.teacher, rule))
    plain = predict_recurrence(seen.teacher_gradient, *data.teacher, rule)
    pairs = {
        "fraction": seen.fraction_at_teacher,
        "escape_rate": seen.escapes / 9500,
        "return_time": seen.return_times,
    }
    for name, values in pairs.items():
        agreement = correlation(getattr(found, name), values).value
        assert agreement > 0.95, name
        assert agreement > correlation(getattr(plain, name), values).value, name
    torch.testing.assert_close(found.fraction, seen.fraction_at_teacher, atol=0.1, rtol=0)


def test_wrong_settings_are_named(data: TeacherStudent) -> None:
    with pytest.raises(ConfigurationError, match="rounds=-1"):
        linear_drift(*data.train_data, *data.teacher, rounds=-1)
    drift = linear_drift(*data.train_data, *data.teacher, rounds=0)
    with pytest.raises(ConfigurationError, match="burn_in=10"):
        predict_coupled_recurrence(drift, steps=10, burn_in=10)
