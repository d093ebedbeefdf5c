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


def test_rates_are_tabulated_without_a_column_of_dead_runs(tmp_path):
    base = {"experiment": "deep", "n": 8, "trials": 8, "steps": 100}
    results = run(expand(base, {"samples": [4, 128]}), tmp_path, workers=1, show=False)
    few, many = rates.rate_rows(results)
    assert set(few) == {"samples", "last", "ergodic"}
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
