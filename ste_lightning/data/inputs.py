"""Input distributions of the teacher-student problem: Gaussian, and what real data are like."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ste_lightning.data.real_rows import (
    Array,
    InputLaw,
    Shape,
    breast_cancer,
    digits,
    fashion_mnist,
    normal_like,
    rows,
    wine,
)
from ste_lightning.errors import ConfigurationError, require, unknown

__all__ = ["InputLaw", "input_law", "input_names"]


def _feature_quantiles(n: int) -> Array:
    """Return n standard normal quantiles: what makes features differ, the same in every trial."""
    middle = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    quantiles: Array = torch.special.ndtri(middle).float().numpy()
    return quantiles


def _gaussian(
    rng: np.random.Generator,
    shape: Shape,
    mean: float,
    std: float,
    mean_spread: float,
    std_spread: float,
    row_spread: float,
) -> Array:
    z = rng.standard_normal(shape, dtype=np.float32)
    if mean_spread or std_spread:
        own = _feature_quantiles(shape[-1])
        # Means from one end, scales from the middle outwards: the two do not go together.
        scale = np.exp(np.float32(std_spread) * np.roll(own, shape[-1] // 2))
        z = np.float32(mean) + np.float32(mean_spread) * own + np.float32(std) * scale * z
    else:
        if std != 1.0:
            z *= np.float32(std)
        if mean != 0.0:
            z += np.float32(mean)
    if row_spread:
        row = rng.standard_normal((*shape[:-1], 1), dtype=np.float32)
        z *= np.exp(np.float32(row_spread) * row)
    return z


def gaussian(
    mean: float = 0.0,
    std: float = 1.0,
    mean_spread: float = 0.0,
    std_spread: float = 0.0,
    row_spread: float = 0.0,
) -> InputLaw:
    """N(mean, std^2), independent; the setting of the theory with mean 0 and std 1.

    The spreads make real data's faults. Feature i has mean ``mean + mean_spread q_i`` and standard
    deviation ``std exp(std_spread q_j)``, q the standard normal quantiles at (i + 1/2)/n and j
    another place of the same set; row k is multiplied by ``exp(row_spread A_k)``, A_k normal.
    """
    require(std > 0, "std", std, "use a positive number")
    spreads = {"mean_spread": mean_spread, "std_spread": std_spread, "row_spread": row_spread}
    for name, spread in spreads.items():
        require(spread >= 0, name, spread, "use a number >= 0")
    return functools.partial(
        _gaussian,
        mean=mean,
        std=std,
        mean_spread=mean_spread,
        std_spread=std_spread,
        row_spread=row_spread,
    )


def _correlated(rng: np.random.Generator, shape: Shape, correlation: float, kind: str) -> Array:
    z = rng.standard_normal(shape, dtype=np.float32)
    n = shape[-1]
    lag = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    covariance = correlation**lag if kind == "ar1" else np.where(lag == 0, 1.0, correlation)
    root: Array = np.linalg.cholesky(covariance).astype(np.float32)
    return z @ root.T


def correlated(correlation: float = 0.9, kind: str = "ar1") -> InputLaw:
    """Standard Gaussian, correlated over the n features.

    ``kind="ar1"``: corr(z_i, z_j) = correlation^|i-j|; ``kind="equal"``: correlation for all
    i != j.
    """
    require(0 <= correlation < 1, "correlation", correlation, "use a number in [0, 1)")
    if kind not in ("ar1", "equal"):
        raise unknown("kind of correlation", kind, ("ar1", "equal"))
    return functools.partial(_correlated, correlation=correlation, kind=kind)


def _exponential(rng: np.random.Generator, shape: Shape, mean: float) -> Array:
    z = rng.standard_exponential(shape, dtype=np.float32)
    return z + np.float32(mean - 1.0) if mean != 1.0 else z


def exponential(mean: float = 1.0) -> InputLaw:
    """Exponential of standard deviation 1, shifted to this mean; by default positive."""
    return functools.partial(_exponential, mean=mean)


def _lognormal(rng: np.random.Generator, shape: Shape, sigma: float) -> Array:
    drawn: Array = np.exp(np.float32(sigma) * rng.standard_normal(shape, dtype=np.float32))
    return drawn


def lognormal(sigma: float = 1.0) -> InputLaw:
    """exp(sigma A), A standard normal: positive, with a heavy tail."""
    require(sigma > 0, "sigma", sigma, "use a positive number")
    return functools.partial(_lognormal, sigma=sigma)


def _clusters(rng: np.random.Generator, shape: Shape, distance: float) -> Array:
    side = rng.choice(np.array([-0.5, 0.5], np.float32), (*shape[:-1], 1)) * np.float32(distance)
    centre = np.where(np.arange(shape[-1]) % 2, np.float32(-1), np.float32(1))
    z: Array = side * centre + rng.standard_normal(shape, dtype=np.float32)
    return z


def clusters(distance: float = 2.0) -> InputLaw:
    """Rows from two standard Gaussian clusters, centred at +-distance/2 (1, -1, 1, -1, ...)."""
    require(distance >= 0, "distance", distance, "use a number >= 0")
    return functools.partial(_clusters, distance=distance)


def _uniform(rng: np.random.Generator, shape: Shape, low: float, high: float) -> Array:
    return np.float32(low) + np.float32(high - low) * rng.random(shape, dtype=np.float32)


def uniform(low: float = 0.0, high: float = 1.0) -> InputLaw:
    """Uniform on [low, high), by default [0, 1): not centred."""
    require(high > low, "high", high, f"use a number above low={low}")
    return functools.partial(_uniform, low=low, high=high)


def _bernoulli(rng: np.random.Generator, shape: Shape, p: float) -> Array:
    return (rng.random(shape, dtype=np.float32) < p).astype(np.float32)


def bernoulli(p: float = 0.5) -> InputLaw:
    """1 with probability p, else 0."""
    require(0 < p < 1, "p", p, "use a number in (0, 1)")
    return functools.partial(_bernoulli, p=p)


def _rademacher(rng: np.random.Generator, shape: Shape) -> Array:
    return np.float32(2) * (rng.random(shape, dtype=np.float32) < 0.5) - np.float32(1)


def rademacher() -> InputLaw:
    """-1 or 1 with equal chance."""
    return _rademacher


def _student_t(rng: np.random.Generator, shape: Shape, df: float) -> Array:
    return rng.standard_t(df, shape).astype(np.float32)


def student_t(df: float = 3.0) -> InputLaw:
    """Student's t with df degrees of freedom: symmetric, with heavy tails."""
    require(df > 0, "df", df, "use a positive number")
    return functools.partial(_student_t, df=df)


_LAWS: dict[str, Callable[..., InputLaw]] = {
    law.__name__: law
    for law in (
        *(gaussian, correlated, clusters, exponential, lognormal, uniform),
        *(bernoulli, rademacher, student_t),
        *(digits, fashion_mnist, breast_cancer, wine, normal_like),
    )
}


def input_names() -> tuple[str, ...]:
    """Return the names of the input distributions."""
    return tuple(sorted(_LAWS))


def input_law(spec: str | Mapping[str, Any] | Tensor) -> InputLaw:
    """Return the input distribution of a specification.

    Args:
        spec: a name; or a mapping with ``name`` and the distribution's parameters, as in
            ``{"name": "correlated", "correlation": 0.5}``; or a tensor (rows, n) of real data.

    Raises:
        ConfigurationError: for an unknown name or parameter, with the nearest match, and for
            a parameter out of range.
    """
    if isinstance(spec, Tensor):
        return rows(spec)
    params = {"name": spec} if isinstance(spec, str) else dict(spec)
    name = params.pop("name", None)
    if name not in _LAWS:
        raise unknown("input distribution", name, _LAWS)
    known = tuple(inspect.signature(_LAWS[name]).parameters)
    for key in params:
        if key not in known:
            raise unknown(f"parameter of inputs={name!r}:", key, known or ("(none)",))
    try:
        return _LAWS[name](**params)
    except TypeError as error:
        raise ConfigurationError(f"inputs={spec!r} cannot be used: {error}.") from error
