"""The quantized linear model: the simulation, the equations, and both together."""

import numpy as np
import pytest

from ste_lightning.errors import ConfigurationError
from ste_lightning.figures.studies import linear_figure
from ste_lightning.theory.claims import linear
from ste_lightning.theory.engine.online import descend
from ste_lightning.theory.linear import train_linear
from ste_lightning.theory.linear_limit import Levels, input_moments, limit, plateau
from ste_lightning.theory.studies.linear import agreements, linear_rows
from ste_lightning.theory.studies.runner import Result


def test_levels_and_moments():
    levels = Levels(2, 2.0)
    x = np.array([-9.0, -1.4, -1.3, -0.1, 0.1, 1.3, 1.4, 9.0])
    expected = np.array([-6, -6, -2, -2, 2, 2, 6, 6]) / 3
    np.testing.assert_allclose(levels(x), expected)
    one = input_moments(Levels(1, 2.0))
    assert (one.first, one.second) == pytest.approx((2 * np.sqrt(2 / np.pi), 4.0))
    drawn = np.random.default_rng(0).standard_normal(400_000)
    found = input_moments(Levels(3, 2.5))
    q = Levels(3, 2.5)(drawn)
    assert (found.first, found.second) == pytest.approx(((drawn * q).mean(), (q * q).mean()), 0.01)


def test_the_kernel_does_what_the_formula_says():
    rng = np.random.default_rng(1)
    n, lr = 60, 0.3
    weights, inputs = Levels(3, 1.1), Levels(3, 2.0)
    w = rng.standard_normal(n).astype(np.float32)
    x = rng.standard_normal((40, n), dtype=np.float32)
    y = rng.standard_normal(40).astype(np.float32)
    expected = w.astype(np.float64)
    for row, label in zip(x, y, strict=True):
        q = inputs(row)
        expected -= lr / np.sqrt(n) * (weights(expected) @ q / np.sqrt(n) - label) * q
    unit = weights.spacing * inputs.spacing / 4 / np.sqrt(n)
    step = lr / np.sqrt(n) * inputs.spacing / 2
    numbers = (1 / weights.spacing, 1 / inputs.spacing, weights.top, unit, step)
    descend(w, x, y, *(np.float32(number) for number in numbers))
    np.testing.assert_allclose(w, expected, atol=1e-4)


def test_the_equations_where_the_solution_is_known():
    # With levels near 0 the drift is E[x q] everywhere, and the diffusion is constant.
    inputs = Levels(2, 2.0)
    moments = input_moments(inputs)
    found = limit(Levels(1, 1e-3), inputs, lr=0.1, time=[0.0, 0.4], snapshots=[0.4], init_scale=0.1)
    assert found.error == pytest.approx([1.0, 1.0], abs=3e-3)
    share = np.diff(found.cumulative[0])
    middle = (found.edges[1:] + found.edges[:-1]) / 2
    assert share.sum() == pytest.approx(1.0)
    mean = share @ middle
    assert mean == pytest.approx(0.4 * moments.first, rel=5e-3)
    variance = 0.1**2 + 0.1 * moments.second * 0.4
    assert share @ (middle - mean) ** 2 == pytest.approx(variance, rel=0.02)


def test_the_plateau_in_closed_form():
    moments = input_moments(Levels(2, 2.0))
    a = 1 / 3
    assert plateau(Levels(2, 1.0), moments) == pytest.approx(
        2 * a / (moments.first - moments.second * a)
    )
    assert plateau(Levels(2, 9.0), moments) == np.inf  # the lowest level is enough
    assert plateau(Levels(1, 0.5), moments) == np.inf  # there is no other


@pytest.mark.parametrize(
    ("setting", "value"), [("n", 0), ("trials", 0), ("bits", 9), ("range", 0.0), ("time", -1.0)]
)
def test_wrong_settings_are_refused(setting, value):
    with pytest.raises(ConfigurationError, match=setting):
        train_linear(**{"n": 10, setting: value})


@pytest.fixture(scope="module")
def study():
    cells = [
        {"n": 300, "bits": 2, "range": 1.0, "lr": 0.1, "time": 2.0, "trials": 6},
        {"n": 300, "bits": 1, "range": 1.0, "lr": 0.1, "time": 0.5, "trials": 6, "noise": 0.5},
    ]
    return [Result(s, train_linear(**s), 0.0) for s in cells]


def test_simulation_and_equations_agree(study):
    two, one = agreements(study)
    for found in (two, one):
        assert found.deviation.value < 0.05
        assert found.distance < 2 * found.band
        assert found.error.shape == (6, 201)
    assert two.drop.value == pytest.approx(two.plateau, rel=0.15)
    assert two.drop_predicted == pytest.approx(two.plateau, rel=0.1)
    assert two.steepening.value > 1.2  # a large step smears the plateau
    assert one.drop is None


def test_rows_figure_and_claims(study):
    rows = linear_rows(study)
    assert [row["drop, seen"] == "" for row in rows] == [False, True]
    figure = linear_figure(study)
    assert len(figure.axes) == 2 + 4
    for claim in linear.CLAIMS:
        found = claim.measure(study)
        assert found.low <= found.value <= found.high
    assert linear.CLAIMS[2].measure(study[1:]) is None
    assert linear.CLAIMS[3].measure(study[1:]) is None


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"lr": -0.1}, "lr"),
        ({"noise": float("nan")}, "noise"),
        ({"time": []}, "time"),
        ({"time": [1.0, 0.5]}, "time"),
        ({"snapshots": [3.0]}, "snapshots"),
    ],
)
def test_the_equations_refuse_what_they_do_not_hold_for(wrong, name):
    settings = {"lr": 0.1, "time": [0.0, 0.1], **wrong}
    with pytest.raises(ConfigurationError, match=f"^{name}="):
        limit(Levels(2, 1.0), Levels(2, 2.0), **settings)


@pytest.mark.parametrize("wrong", [(0, 1.0), (9, 1.0), (2.5, 1.0), (2, -1.0), (2, float("nan"))])
def test_levels_are_checked(wrong):
    with pytest.raises(ConfigurationError, match="cannot be used"):
        Levels(*wrong)
