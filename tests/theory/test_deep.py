"""One hidden layer more: its gradient by autograd, recovery up to the sign, rules that matter."""

import pytest
import torch

from ste_lightning import functional as SF
from ste_lightning.data import TeacherStudent
from ste_lightning.errors import ConfigurationError
from ste_lightning.models.streams import Stream, generator, normal
from ste_lightning.theory.deep import train_deep
from ste_lightning.theory.studies import expand, rates, run


def by_autograd(n, m, samples, trial, steps, rule, seed):
    """The same network from the package's own quantizers, one trial, by autograd."""
    Z = TeacherStudent(n, m, samples, 1, seed=seed, first_trial=trial).inputs[0]
    teacher = torch.from_numpy(generator(seed, Stream.TEACHER, trial).choice([-1.0, 1.0], n + m))
    x = (0.1 * normal(seed, Stream.WEIGHT, 1, n + m, trial)[0]).requires_grad_()

    def output(w, u):
        return SF.step(SF.sign(Z @ w, rule=rule) @ u, rule="identity")

    w, u = teacher.float().split([n, m])
    y = output(w / n**0.5, u / m**0.5)
    for _ in range(steps):
        w, u = SF.sign(x, rule="identity").split([n, m])
        # Division by a constant's own value: the coarse gradient is that of w, not of sign(x).
        w = w + (w / n**0.5 - w).detach()
        u = u + (u / m**0.5 - u).detach()
        (output(w, u) - y).square().mean().div(2).backward()
        with torch.no_grad():
            x -= x.grad
            x.grad = None
    wrong = int((SF.hard_sign(x) != teacher).sum())
    return min(wrong, n + m - wrong)


def test_follows_autograd():
    got = train_deep(n=12, m=3, samples=30, trials=4, steps=6, seed=2)
    expected = [by_autograd(12, 3, 30, trial, 6, "clipped", 2) for trial in range(4)]
    assert got["distance"] == expected
    assert len(set(expected)) > 1


def test_recovers_up_to_the_common_sign_and_stays():
    settings = {"n": 12, "samples": 200, "trials": 16, "seed": 1}
    short, long = (train_deep(**settings, steps=steps) for steps in (200, 600))
    assert sum(short["last"]) >= 14
    assert all(b for a, b in zip(short["last"], long["last"], strict=True) if a)
    assert short["last"] == [d == 0 for d in short["distance"]]
    assert sum(long["ergodic"]) >= 14


def test_under_the_identity_the_layers_drive_each_other():
    settings = {"n": 12, "samples": 400, "trials": 12, "rule": "identity", "steps": 400}
    both, first = (train_deep(**settings, train_u=train_u) for train_u in (True, False))
    assert sum(both["cycle"]) >= 10
    assert sum(both["last"]) <= 2
    assert all(first["last"])
    assert not any(first["cycle"])
    # One step further a cycle is in its other half, and two steps further in the same one.
    later, same = (train_deep(**{**settings, "steps": steps}) for steps in (401, 402))
    for found in (later, same):
        assert sum(found["cycle"]) >= sum(both["cycle"])
    assert same["distance"] == both["distance"]


@pytest.mark.parametrize("wrong_u", [0, 1, 3])
def test_expected_gradients_of_the_identity(wrong_u):
    n, m, samples = 6, 5, 200_000
    rng = torch.Generator().manual_seed(wrong_u)
    Z = torch.randn(samples, m, n, generator=rng)
    w_star, u_star = torch.ones(n) / n**0.5, torch.ones(m) / m**0.5
    w, u = w_star.clone(), u_star.clone()
    w[:2] *= -1
    u[:wrong_u] *= -1
    w.requires_grad_()
    u.requires_grad_()

    def output(w, u):
        return SF.step(SF.sign(Z @ w, rule="identity") @ u, rule="identity")

    (output(w, u) - output(w_star, u_star).detach()).square().mean().div(2).backward()
    angle = torch.acos(w.detach() @ w_star)
    of_w = w.detach() - (u.detach() @ u_star) * w_star
    of_u = u.detach() - (1 - 2 * angle / torch.pi) * u_star
    for gradient, direction in ((w.grad, of_w), (u.grad, of_u)):
        factor = (gradient @ direction) / direction.square().sum()
        assert factor > 0.1
        torch.testing.assert_close(gradient, factor * direction, atol=0.005, rtol=0)


def test_rates_are_tabulated_without_a_column_of_dead_runs(tmp_path):
    base = {"experiment": "deep", "n": 8, "trials": 8, "steps": 100}
    results = run(expand(base, {"samples": [4, 128]}), tmp_path, workers=1, show=False)
    few, many = rates.rate_rows(results)
    assert set(few) == {"samples", "last", "ergodic", "cycle"}
    assert few["last"] < many["last"]


def test_the_identity_fails_where_a_window_succeeds():
    settings = {"n": 16, "samples": 256, "trials": 16, "steps": 300}
    assert sum(train_deep(**settings, rule="identity")["last"]) < 5
    assert sum(train_deep(**settings, rule="triangular")["last"]) > 12


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"m": 4}, "m=4"), ({"steps": 0}, "steps=0"), ({"lr": 0.0}, "lr=0"), ({"rule": "x"}, "x")],
)
def test_bad_settings_are_named(wrong, message):
    with pytest.raises(ConfigurationError, match=message):
        train_deep(**{"n": 8, "samples": 8, "trials": 1, "steps": 2, **wrong})
