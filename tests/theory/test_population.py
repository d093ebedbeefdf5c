"""Closed forms against quadrature, both against Monte Carlo, and known values."""

import dataclasses
import math

import pytest
import torch

from ste_lightning import functional as SF
from ste_lightning.errors import ConfigurationError
from ste_lightning.theory import moments as moments_module
from ste_lightning.theory import population
from ste_lightning.theory.counterexamples import Tails
from ste_lightning.theory.prediction import restoring_drift

PHI0 = 1 / math.sqrt(2 * math.pi)
CLOSED = ["identity", "relu", "clipped_relu", "clipped"]
SMOOTH = ["triangular", "approx", "tanh", "sigmoid", "arctan", "gaussian", "reste", "ede"]


@dataclasses.dataclass(frozen=True)
class Raw(SF.Surrogate):
    """Any derivative, also one that the registry refuses."""

    kind: str = "odd"

    def derivative(self, x: torch.Tensor) -> torch.Tensor:
        return {"odd": x.sign(), "linear": x, "wrong": -torch.ones_like(x), "far": x.abs() - 1}[
            self.kind
        ]


def pair(n: int, theta: float, length: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    w = torch.zeros(n, dtype=torch.float64)
    w[0] = length
    w_star = torch.zeros(n, dtype=torch.float64)
    w_star[0], w_star[1] = math.cos(theta), math.sin(theta)
    return w, w_star


def monte_carlo(w, w_star, v, v_star, rule, samples=200_000, seed=0):
    generator = torch.Generator().manual_seed(seed)
    Z = torch.randn(samples, len(v), len(w), generator=generator, dtype=torch.float64)
    a, b = Z @ w, Z @ w_star
    residual = (a > 0).double() @ v - (b > 0).double() @ v_star
    each = ((rule.derivative(a) * v)[..., None] * Z).sum(1) * residual[:, None]
    losses = residual.square() / 2
    return each, losses


def close_to_mean(each: torch.Tensor, expected: torch.Tensor) -> None:
    error = each.std(0) / math.sqrt(len(each))
    assert ((each.mean(0) - expected).abs() <= 4 * error + 1e-12).all()


V = torch.tensor([0.7, -0.2, 0.5], dtype=torch.float64)
V_STAR = torch.tensor([0.3, 0.9, -0.4], dtype=torch.float64)


@pytest.mark.parametrize("rule", CLOSED)
@pytest.mark.parametrize("length", [1.0, 2.0])
def test_closed_forms_equal_quadrature(rule, length):
    for theta in (1e-3, 0.3, 1.2, math.pi / 2, 2.5, math.pi - 1e-3):
        w, w_star = pair(5, theta, length)
        for v, v_star in ((V, V), (V, V_STAR)):
            closed = population.coarse_gradient(w, w_star, v, v_star, rule)
            numeric = population.coarse_gradient(w, w_star, v, v_star, rule, quadrature=True)
            torch.testing.assert_close(closed, numeric, atol=1e-9, rtol=0)


@pytest.mark.parametrize("rule", [*CLOSED, *SMOOTH])
def test_coarse_gradient_and_loss_agree_with_monte_carlo(rule):
    surrogate = SF.surrogate(rule)
    for seed, (theta, length, v_star) in enumerate([(0.7, 1.0, V), (2.0, 1.5, V_STAR)]):
        w, w_star = pair(4, theta, length)
        each, losses = monte_carlo(w, w_star, V, v_star, surrogate, seed=seed)
        close_to_mean(each, population.coarse_gradient(w, w_star, V, v_star, rule))
        close_to_mean(losses, population.loss(w, w_star, V, v_star))


def test_known_values():
    w, w_star = pair(6, 1.1)
    v = torch.full((4,), 0.5, dtype=torch.float64)
    identity = population.coarse_gradient(w, w_star, v, rule="identity")
    torch.testing.assert_close(identity, PHI0 * (w - w_star))
    torch.testing.assert_close(population.coarse_gradient(w, w_star, v), identity / 2)
    assert float(population.loss(w, w_star, v)) == pytest.approx(1.1 / (2 * math.pi))
    assert float(population.loss(w, w_star, v, noise=0.4)) == pytest.approx(
        1.1 / (2 * math.pi) + 0.08
    )
    assert float(population.loss(w, w, v)) == pytest.approx(0, abs=1e-12)
    assert population.coarse_gradient(w, w, v, rule="triangular").abs().max() < 1e-9


def test_gradient_is_the_derivative_of_the_loss():
    w, w_star = pair(3, 0.8, 1.7)
    w.requires_grad_()
    population.loss(w, w_star, V, V_STAR).backward()
    torch.testing.assert_close(w.grad, population.gradient(w.detach(), w_star, V, V_STAR))
    # cos(E g, gradient) = cos(theta / 2) for identity and ReLU at v = v*.
    g = population.coarse_gradient(w.detach(), w_star, V)
    d = population.gradient(w.detach(), w_star, V)
    cosine = float(torch.nn.functional.cosine_similarity(g, d, dim=0))
    assert cosine == pytest.approx(math.cos(0.4))


def test_batches_and_angles():
    w = torch.stack([pair(4, 0.0)[0]] * 3)
    w_star = torch.stack([pair(4, t)[1] for t in (0.0, 1.0, math.pi)])
    torch.testing.assert_close(
        population.angle(w, w_star), torch.tensor([0.0, 1.0, math.pi], dtype=torch.float64)
    )
    v = V.expand(3, -1)
    for rule in ("relu", "triangular"):
        both = population.coarse_gradient(w, w_star, v, rule=rule)
        for i in range(3):
            one = population.coarse_gradient(w[i], w_star[i], V, rule=rule)
            torch.testing.assert_close(both[i], one)


@pytest.mark.parametrize("rule", [*CLOSED, *SMOOTH, "superspike", "leaky"])
def test_ordinary_rules_can_descend(rule):
    answer = population.can_descend(rule)
    assert answer, answer.reason
    assert (answer.pull > 0).all()


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("odd", "odd rule"), ("linear", "odd rule"), ("wrong", "uphill at every"), ("far", "angles")],
)
def test_rules_that_cannot_descend_are_told_why(kind, reason):
    answer = population.can_descend(Raw(kind))
    assert not answer
    assert reason in answer.reason


def test_a_rule_that_looks_away_has_no_pull_near_the_teacher():
    answer = population.can_descend(Tails())
    assert answer
    assert "without pull" in answer.reason


def test_an_odd_rule_has_no_expected_gradient():
    w, w_star = pair(4, 1.3)
    g = population.coarse_gradient(w, w_star, V, rule=Raw("odd"))
    assert g.abs().max() < 1e-12


def test_pull_and_drift_of_the_identity():
    answer = population.can_descend("identity")
    torch.testing.assert_close(answer.pull, torch.full_like(answer.pull, 2 * PHI0))
    assert answer.drift.abs().max() < 1e-12


def test_expectation_of_functions_with_jumps_and_spikes():
    def f(a):
        return torch.stack([(a > 0.1234567).double(), a * a, (a.abs() < 1e-3).double()])

    got = moments_module.expectation(f, marks=torch.tensor([-1e-3, 1e-3]))
    normal = torch.special.ndtr(torch.tensor([-0.1234567, 1e-3], dtype=torch.float64))
    expected = torch.stack([normal[0], torch.ones_like(normal[0]), 2 * normal[1] - 1])
    torch.testing.assert_close(got, expected, atol=1e-10, rtol=0)


@pytest.mark.parametrize("rule", ["relu", "identity", "triangular"])
def test_spread_of_the_gradient_at_the_teacher(rule):
    n, samples, noise = 6, 200, 1.0
    v = torch.tensor([0.6, 0.5, -0.3], dtype=torch.float64)
    stability = population.local_stability(n, samples, noise, v, rule)
    generator = torch.Generator().manual_seed(1)
    sets = 3000
    Z = torch.randn(sets, samples, 3, n, generator=generator)
    w = torch.ones(n) / math.sqrt(n)
    eps = noise * torch.randn(sets, samples, generator=generator)
    weight = SF.surrogate(rule).derivative(Z @ w) * v.float() * eps[..., None]
    g = torch.einsum("bsj,bsji->bi", weight, Z) / samples
    variance = g.double().square().mean()
    error = g.double().square().mean(1).std() / math.sqrt(sets)
    assert float((variance - stability.spread**2).abs()) < 4 * float(error)
    assert stability.signal == pytest.approx(float(restoring_drift(n, v[None], rule)), rel=1e-4)
    # What a coordinate, and all of them together, make of such a gradient.
    p = g.double().clamp(min=0) / stability.signal
    close_to_mean(p.mean(1), torch.tensor(stability.share))
    close_to_mean((p > 0.5).double().mean(1), torch.tensor(stability.overturned))
    together = (1 - p.clamp(max=1)).prod(1)
    if rule == "triangular":  # whose coordinates are correlated: the product is an approximation
        assert float(together.mean()) == pytest.approx(stability.fraction, abs=0.05)
    else:
        close_to_mean(together, torch.tensor(stability.fraction))


def test_stability_without_noise_and_with_much():
    v = torch.ones(4) / 2
    quiet = population.local_stability(16, 100, 0.0, v)
    assert (quiet.fraction, quiet.overturned) == (1.0, 0.0)
    loud = population.local_stability(16, 100, 50.0, v)
    assert loud.fraction < 1e-6
    assert loud.overturned == pytest.approx(0.5, abs=0.01)
    # docs/theory/noise.md: mean p_i sums to about sigma/2 sqrt(n^3/N), times sqrt 2 for ReLU.
    one = population.local_stability(16, 2048, 0.5, v)
    assert 16 * one.share == pytest.approx(0.25 * math.sqrt(2 * 16**3 / 2048), rel=0.15)


def test_bad_input():
    w, w_star = pair(3, 1.0)
    with pytest.raises(ConfigurationError, match="zero vector"):
        population.loss(torch.zeros(3), w_star, V)
    with pytest.raises(ConfigurationError, match="as many rows"):
        population.loss(w, w_star, V, V_STAR[:2])
    with pytest.raises(ConfigurationError, match="meant for weights"):
        population.coarse_gradient(w, w_star, V, rule="magnitude_aware")
