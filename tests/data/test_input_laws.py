"""Input distributions: moments, spreads, correlation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from ste_lightning.data.inputs import input_law, input_names
from ste_lightning.errors import ConfigurationError

MOMENTS = {
    "gaussian": (0.0, 1.0),
    "correlated": (0.0, 1.0),
    "exponential": (1.0, 1.0),
    "uniform": (0.5, 12**-0.5),
    "bernoulli": (0.5, 0.5),
    "student_t": (0.0, 3**0.5),
    "rademacher": (0.0, 1.0),
    "lognormal": (math.exp(0.5), (math.exp(2) - math.exp(1)) ** 0.5),
    "clusters": (0.0, 2**0.5),
}
REAL = {"digits", "fashion_mnist", "breast_cancer", "wine", "normal_like"}


@pytest.mark.parametrize("name", sorted(MOMENTS))
def test_input_laws_have_their_moments(name: str) -> None:
    spec = {"name": "student_t", "df": 12.0} if name == "student_t" else name
    drawn = input_law(spec)(np.random.default_rng(0), (20000, 2, 5))
    mean, std = MOMENTS[name] if name != "student_t" else (0.0, 1.2**0.5)
    assert drawn.dtype == np.float32
    assert drawn.mean() == pytest.approx(mean, abs=0.02)
    assert drawn.std() == pytest.approx(std, abs=0.02 if name != "lognormal" else 0.1)


@pytest.mark.parametrize("table", ["wine", "digits"])
def test_normal_rows_have_the_moments_of_real_ones(table: str) -> None:
    rng = np.random.default_rng(0)
    n = {"wine": 13, "digits": 48}[table]
    rows = {"wine": 178, "digits": 1797}[table]
    real = input_law(table)(rng, (rows, 1, n))[:, 0]
    drawn = input_law({"name": "normal_like", "table": table})(rng, (20000, 1, n))[:, 0]
    size = real.std(0)
    assert np.abs(drawn.mean(0) - real.mean(0)).max() < 0.05 * size.max()
    assert np.abs((np.cov(drawn.T) - np.cov(real.T)) / np.outer(size, size)).max() < 0.1
    assert drawn.min(0).max() < real.min(0).max()  # pixels are never negative, normal numbers are
    with pytest.raises(ConfigurationError, match="table"):
        input_law({"name": "normal_like", "table": "iris"})
    with pytest.raises(ConfigurationError, match="n=5"):
        input_law({"name": "normal_like", "table": table})(rng, (2, 1, 5))


def test_every_named_law_is_tested() -> None:
    assert set(input_names()) == {*MOMENTS, *REAL}


def test_spreads_make_features_and_rows_differ() -> None:
    rng = np.random.default_rng(0)
    spec = {"name": "gaussian", "mean_spread": 2.0, "std_spread": 0.5}
    drawn = input_law(spec)(rng, (20000, 1, 8))[:, 0]
    quantiles = torch.special.ndtri((torch.arange(8, dtype=torch.float64) + 0.5) / 8).numpy()
    np.testing.assert_allclose(drawn.mean(0), 2 * quantiles, atol=0.06)
    np.testing.assert_allclose(np.sort(drawn.std(0)), np.exp(0.5 * quantiles), rtol=0.03)
    rows = input_law({"name": "gaussian", "row_spread": 0.7})(rng, (4000, 1, 200))[:, 0]
    logs = np.log(rows.std(1))
    assert logs.mean() == pytest.approx(0, abs=0.05)
    assert logs.std() == pytest.approx(0.7, abs=0.05)


def test_clusters_and_shifted_exponential() -> None:
    drawn = input_law({"name": "clusters", "distance": 6.0})(np.random.default_rng(0), (9000, 1, 4))
    side = np.sign(drawn[:, 0] @ [1, -1, 1, -1])
    centred = drawn[:, 0] * [1, -1, 1, -1] * side[:, None]
    np.testing.assert_allclose(centred.mean(0), 3, atol=0.05)
    assert abs(side.mean()) < 0.05
    law = input_law({"name": "exponential", "mean": 0.0})
    shifted = law(np.random.default_rng(0), (20000, 1, 2))
    assert shifted.mean() == pytest.approx(0, abs=0.02)
    assert shifted.min() == pytest.approx(-1, abs=0.01)


@pytest.mark.parametrize("kind", ["ar1", "equal"])
def test_correlated_inputs_have_their_correlation(kind: str) -> None:
    law = input_law({"name": "correlated", "correlation": 0.6, "kind": kind})
    drawn = law(np.random.default_rng(0), (40000, 1, 3))[:, 0]
    observed = np.corrcoef(drawn.T)
    far = 0.36 if kind == "ar1" else 0.6
    np.testing.assert_allclose(observed, [[1, 0.6, far], [0.6, 1, 0.6], [far, 0.6, 1]], atol=0.02)
