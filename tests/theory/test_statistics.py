"""Intervals and fits against known values and simulated data."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from ste_lightning.errors import ConfigurationError
from ste_lightning.theory.estimates import Estimate, difference, power_law, quotient
from ste_lightning.theory.statistics import correlation, crossing, half_point, wilson


def outcomes(samples, n50, slope, seeds, seed=0):
    N = torch.tensor(samples, dtype=torch.float64)
    p = torch.sigmoid(slope * (N / n50).log())
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(len(samples), seeds, generator=generator) < p[:, None]


def test_wilson_known_values():
    low, high = wilson(torch.tensor([0, 64, 7]), 64)
    torch.testing.assert_close(
        low, torch.tensor([0.0, 0.9434, 0.0540], dtype=torch.float64), atol=1e-4, rtol=0
    )
    torch.testing.assert_close(
        high, torch.tensor([0.0566, 1.0, 0.2090], dtype=torch.float64), atol=1e-4, rtol=0
    )
    with pytest.raises(ConfigurationError, match="positive counts"):
        wilson(0, 0)


def test_half_point_finds_the_middle_and_covers_it():
    samples = [16, 24, 32, 48, 64, 96, 128]
    covered = 0
    for seed in range(20):
        estimate = half_point(samples, outcomes(samples, 50, 4.0, 96, seed), replicates=100)
        assert estimate.value == pytest.approx(50, rel=0.15)
        covered += estimate.low <= 50 <= estimate.high
    assert covered >= 16


def test_half_point_of_separated_data_lies_between():
    success = torch.tensor([[False] * 8, [False] * 8, [True] * 8, [True] * 8])
    estimate = half_point([10, 20, 40, 80], success)
    assert estimate.value == pytest.approx(math.sqrt(800), rel=0.01)


def test_half_point_outside_the_grid_is_bounded_not_guessed():
    never = half_point([10, 20], torch.zeros(2, 8, dtype=torch.bool))
    assert math.isnan(never.value)
    assert (never.low, never.high) == (20, math.inf)
    assert str(never) == "> 20"
    always = half_point([10, 20], torch.ones(2, 8, dtype=torch.bool))
    assert str(always) == "< 10"
    with pytest.raises(ConfigurationError, match="a row for each"):
        half_point([10, 20, 30], torch.zeros(2, 8, dtype=torch.bool))


def shares(*rates, seeds=40):
    """Outcomes with these rates at successive numbers of samples, the same seeds first."""
    return torch.stack([torch.arange(seeds) < round(rate * seeds) for rate in rates])


@pytest.mark.parametrize(
    ("rates", "shown"),
    [
        ((0.1, 0.3, 0.5, 0.35, 0.3, 0.35), "> 320"),  # saturates: the fit crosses far beyond
        ((0.6, 0.4, 0.3, 0.2, 0.1, 0.0), "> 320"),  # more samples make it worse
        ((0.48, 0.7, 0.6, 0.65, 0.7, 0.65), "< 10"),  # the fit crosses before the grid
        ((1.0, 0.9, 0.9, 0.8, 0.7, 0.6), "< 10"),  # falls, and yet is above one half throughout
    ],
)
def test_a_curve_that_does_not_rise_through_one_half_gives_a_bound(rates, shown):
    assert str(half_point([10, 20, 40, 80, 160, 320], shares(*rates))) == shown


def test_an_interval_that_leaves_the_grid_is_open():
    samples = [10, 20, 40]
    late = half_point(samples, shares(0.0, 0.1, 0.52, seeds=30))
    assert late.value <= 40 < late.replicates.quantile(0.975)
    assert late.high == math.inf
    assert str(late).endswith(", ∞)")
    early = half_point(samples, shares(0.48, 0.9, 1.0, seeds=30))
    assert early.value >= 10 > early.replicates.quantile(0.025)
    assert early.low == 0
    assert " (0, " in str(early)
    middle = half_point(samples, shares(0.1, 0.5, 0.9, seeds=30))
    assert 10 < middle.low < middle.high < 40
    later = half_point([20, 40, 80], shares(0.0, 0.5, 1.0, seeds=30))
    # An exponent is open on the side that the open value moves it to.
    for values, low, high in (
        ((middle, late), False, True),
        ((late, later), True, False),
        ((early, later), False, True),
        ((middle, later), False, False),
    ):
        fit = power_law([8, 16], values)
        assert (fit.low == -math.inf, fit.high == math.inf) == (low, high)
        assert ("(-∞, " in str(fit), str(fit).endswith(", ∞)")) == (low, high)


def test_crossing_interpolates_and_bounds():
    share = torch.tensor([[0.1, 0.3], [0.3, 0.5], [0.5, 0.7]])
    found = crossing([10, 20, 40], share)
    assert found.value == pytest.approx(20 * math.sqrt(2))
    assert found.low < found.value < found.high
    assert found.low == 0 or found.low > 10
    assert found.high < 40 or found.high == math.inf
    assert str(crossing([10, 20], share[:2])) == "> 20"
    assert str(crossing([10, 20], share[:2] + 0.6)) == "< 10"


def test_power_law_recovers_an_exponent():
    sizes, estimates = [8, 16, 32, 64], []
    for n in sizes:
        grid = [int(n**1.5 * f) for f in (0.5, 0.7, 1.0, 1.4, 2.0)]
        estimates.append(half_point(grid, outcomes(grid, n**1.5, 4.0, 128, n), seed=n))
    fit = power_law(sizes, estimates)
    assert fit.low < 1.5 < fit.high
    assert fit.high - fit.low < 0.3
    bounded = Estimate(math.nan, 20.0, math.inf, torch.empty(0))
    with pytest.raises(ConfigurationError, match="only bounded"):
        power_law([8, 16], [estimates[0], bounded])
    assert str(fit).startswith("1.")


def test_correlation_with_its_interval():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, generator=generator)
    y = 0.6 * x + 0.8 * torch.randn(200, generator=generator)
    found = correlation(x, y)
    assert found.value == pytest.approx(np.corrcoef(x, y)[0, 1])
    # Fisher's interval, for normal pairs.
    z, half = math.atanh(found.value), 1.96 / math.sqrt(197)
    assert found.low == pytest.approx(math.tanh(z - half), abs=0.03)
    assert found.high == pytest.approx(math.tanh(z + half), abs=0.03)
    holes = torch.cat([x, torch.tensor([math.nan, math.inf])])
    assert correlation(holes, torch.cat([y, y[:2]])).value == pytest.approx(found.value)
    for few in (x[:2], torch.ones(5)):
        assert math.isnan(correlation(few, y[: len(few)]).value)


def test_a_quotient_keeps_pairs_together_and_open_ends_open():
    both = torch.linspace(1, 2, 400, dtype=torch.float64)
    above, below = Estimate(3.0, 2.1, 3.9, 2 * both), Estimate(1.5, 1.05, 1.95, both)
    ratio = quotient(above, below)
    assert (ratio.value, ratio.low, ratio.high) == (2.0, 2.0, 2.0)
    unbounded = dataclasses.replace(above, high=math.inf)
    assert str(quotient(unbounded, below)) == "2 [2, ∞)"
    assert str(quotient(above, dataclasses.replace(below, high=math.inf))) == "2 (0, 2]"
    with pytest.raises(ConfigurationError, match="only bounded"):
        quotient(above, Estimate(math.nan, 3.0, math.inf, both))


def test_a_difference_of_exponents_counts_their_common_n50_once():
    generator = torch.Generator().manual_seed(0)
    noise = 0.05 * torch.randn(3, 4000, generator=generator, dtype=torch.float64)
    n50 = [
        Estimate(value, 0.5 * value, 2 * value, value * error.exp())
        for value, error in zip((100.0, 400.0, 2000.0), noise, strict=True)
    ]
    first, second = power_law([64, 128], n50[:2]), power_law([128, 256], n50[1:])
    rise = difference(second, first)
    assert rise.value == pytest.approx(math.log2(1.25))
    # Var(a - 2 b + c) is 6 variances, not the 4 of independent exponents.
    assert float(rise.replicates.std()) == pytest.approx(0.05 * 6**0.5 / math.log(2), rel=0.05)
    assert math.isinf(difference(dataclasses.replace(second, high=math.inf), first).high)
    assert math.isinf(difference(second, dataclasses.replace(first, high=math.inf)).low)
    with pytest.raises(ConfigurationError, match="only bounded"):
        difference(second, Estimate(math.nan, 3.0, math.inf, n50[0].replicates))
