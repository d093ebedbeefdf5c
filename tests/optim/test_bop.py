"""Bop against the paper's update written in NumPy."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from ste_lightning.errors import ConfigurationError
from ste_lightning.layers import QuantLinear
from ste_lightning.optim import Bop, Chained, SecondOrderBop

STEPS, N = 40, 50


def gradients(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.02, 1.0, (STEPS, N))


def train(optimizer_class, start: np.ndarray, **options) -> np.ndarray:
    weight = torch.nn.Parameter(torch.tensor(start))
    optimizer = optimizer_class([weight], **options)
    trace = []
    for gradient in gradients():
        weight.grad = torch.tensor(gradient)
        optimizer.step()
        trace.append(weight.detach().numpy().copy())
    return np.stack(trace)


def test_bop_is_the_papers_update() -> None:
    start = np.random.default_rng(1).normal(size=N)
    w, m, expected = np.where(start >= 0, 1.0, -1.0), np.zeros(N), []
    for g in gradients():
        m = (1 - 0.1) * m + 0.1 * g
        w = np.where(w * m > 0.05, -w, w)
        expected.append(w)
    found = train(Bop, start, lr=0.1, threshold=0.05)
    np.testing.assert_array_equal(found, expected)
    assert 0 < np.mean(found[1:] != found[:-1]) < 0.5


@pytest.mark.parametrize("correct", [False, True])
def test_second_order_bop_normalizes_by_the_second_moment(correct: bool) -> None:
    start = np.random.default_rng(1).normal(size=N)
    w, m, v, expected = np.where(start >= 0, 1.0, -1.0), np.zeros(N), np.zeros(N), []
    for t, g in enumerate(gradients(), start=1):
        m = (1 - 0.1) * m + 0.1 * g
        v = (1 - 0.01) * v + 0.01 * g**2
        mh, vh = (m / (1 - 0.9**t), v / (1 - 0.99**t)) if correct else (m, v)
        w = np.where(w * mh / (np.sqrt(vh) + 1e-10) > 0.3, -w, w)
        expected.append(w)
    options = {"lr": 0.1, "sigma": 0.01, "threshold": 0.3, "bias_correction": correct}
    np.testing.assert_array_equal(train(SecondOrderBop, start, **options), expected)


@pytest.mark.parametrize("optimizer_class", [Bop, SecondOrderBop])
def test_a_tie_keeps_the_weight(optimizer_class) -> None:
    # sign(-sign(w m - tau) w), as coded elsewhere, sends both signs to +1 here.
    weight = torch.nn.Parameter(torch.tensor([-1.0, 1.0]))
    optimizer = optimizer_class([weight], threshold=0.0)
    weight.grad = torch.zeros(2)
    optimizer.step()
    assert weight.tolist() == [-1.0, 1.0]


def test_weights_become_binary_and_zero_counts_as_positive() -> None:
    weight = torch.nn.Parameter(torch.tensor([0.3, -0.2, 0.0, -0.0]))
    optimizer = Bop([weight])
    weight.grad = torch.zeros(4)
    optimizer.step()
    assert weight.tolist() == [1.0, -1.0, 1.0, 1.0]


def test_weights_without_gradient_are_left_alone() -> None:
    weight = torch.nn.Parameter(torch.tensor([0.3]))
    Bop([weight]).step()
    assert weight.item() == pytest.approx(0.3)


@pytest.mark.parametrize("optimizer_class", [Bop, SecondOrderBop])
def test_resumes_to_the_same_weights(optimizer_class) -> None:
    options = {"lr": 0.2, "threshold": 0.01}
    whole = train(optimizer_class, np.ones(N), **options)
    weight = torch.nn.Parameter(torch.ones(N, dtype=torch.float64))
    optimizer = optimizer_class([weight], **options)
    for step, gradient in enumerate(gradients()):
        if step == STEPS // 2:
            state = optimizer.state_dict()
            weight = torch.nn.Parameter(weight.detach().clone())
            optimizer = optimizer_class([weight], **options)
            optimizer.load_state_dict(state)
        weight.grad = torch.tensor(gradient)
        optimizer.step()
    np.testing.assert_array_equal(weight.detach().numpy(), whole[-1])


@pytest.mark.parametrize(
    ("optimizer_class", "options"),
    [
        (Bop, {"lr": 0.0}),
        (Bop, {"threshold": -1.0}),
        (SecondOrderBop, {"sigma": 2.0}),
        (SecondOrderBop, {"eps": 0.0}),
    ],
)
def test_settings_out_of_range_are_refused(optimizer_class, options) -> None:
    with pytest.raises(ConfigurationError):
        optimizer_class([torch.nn.Parameter(torch.ones(1))], **options)


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        QuantLinear(8, 16, input_quantizer=None), torch.nn.BatchNorm1d(16), torch.nn.Linear(16, 2)
    )


def chained(model: torch.nn.Module) -> Chained:
    latent = model[0].weight
    rest = [p for p in model.parameters() if p is not latent]
    return Chained(Bop([latent], lr=1e-2, threshold=1e-6), torch.optim.Adam(rest, lr=1e-2))


def fit(model: torch.nn.Module, optimizer: Chained, steps: int, start: int = 0) -> float:
    for step in range(start, start + steps):
        x = torch.randn(64, 8, generator=torch.Generator().manual_seed(step))
        target = (x[:, 0] + x[:, 1] > 0).long()

        def closure(x: torch.Tensor = x, target: torch.Tensor = target) -> torch.Tensor:
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(x), target)
            loss.backward()
            return loss

        loss = optimizer.step(closure)
    return loss.item()


def test_chained_trains_binary_and_real_parameters_together() -> None:
    model = network()
    optimizer = chained(model)
    first = fit(model, optimizer, 1)
    assert fit(model, optimizer, 150) < 0.6 * first
    assert set(model[0].weight.unique().tolist()) == {-1.0, 1.0}


def test_chained_resumes_and_schedulers_reach_its_groups() -> None:
    model = network()
    optimizer = chained(model)
    fit(model, optimizer, 5)
    other = network()
    other.load_state_dict(model.state_dict())
    resumed = chained(other)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert fit(model, optimizer, 5, start=5) == fit(other, resumed, 5, start=5)
    schedule = torch.optim.lr_scheduler.ExponentialLR(resumed, 0.5)
    fit(other, resumed, 1)
    schedule.step()
    assert [o.param_groups[0]["lr"] for o in resumed.optimizers] == [0.5e-2, 0.5e-2]


def test_chained_refuses_a_parameter_in_two_optimizers() -> None:
    parameter = torch.nn.Parameter(torch.ones(2))
    with pytest.raises(ConfigurationError, match="in two of them"):
        Chained(Bop([parameter]), torch.optim.SGD([parameter], lr=0.1))
    with pytest.raises(ConfigurationError, match="two or more"):
        Chained(Bop([parameter]))
