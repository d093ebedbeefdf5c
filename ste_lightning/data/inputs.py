"""Input distributions of the teacher-student problem: Gaussian, and what real data are like."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ste_lightning.errors import ConfigurationError, require, unknown

__all__ = ["InputLaw", "input_law", "input_names"]

Array = npt.NDArray[np.float32]
Shape = tuple[int, int, int]
InputLaw = Callable[[np.random.Generator, Shape], Array]
"""Draws one trial's inputs of shape (samples, m, n) from a generator."""


def _gaussian(rng: np.random.Generator, shape: Shape, mean: float, std: float) -> Array:
    z = rng.standard_normal(shape, dtype=np.float32)
    if std != 1.0:
        z *= np.float32(std)
    if mean != 0.0:
        z += np.float32(mean)
    return z


def gaussian(mean: float = 0.0, std: float = 1.0) -> InputLaw:
    """N(mean, std^2), independent; the setting of the theory with mean 0 and std 1."""
    require(std > 0, "std", std, "use a positive number")
    return functools.partial(_gaussian, mean=mean, std=std)


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


def _exponential(rng: np.random.Generator, shape: Shape) -> Array:
    return rng.standard_exponential(shape, dtype=np.float32)


def exponential() -> InputLaw:
    """Exponential of mean 1: positive, so not centred."""
    return _exponential


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


def _student_t(rng: np.random.Generator, shape: Shape, df: float) -> Array:
    return rng.standard_t(df, shape).astype(np.float32)


def student_t(df: float = 3.0) -> InputLaw:
    """Student's t with df degrees of freedom: symmetric, with heavy tails."""
    require(df > 0, "df", df, "use a positive number")
    return functools.partial(_student_t, df=df)


def _rows(rng: np.random.Generator, shape: Shape, table: Array) -> Array:
    samples, m, n = shape
    rows, columns = table.shape
    require(n == columns, "n", n, f"the rows have {columns} features, use n={columns}")
    require(
        samples * m <= rows,
        "samples",
        samples,
        f"there are {rows} rows and m={m} are used per sample, use at most {rows // m}",
    )
    picked: Array = table[rng.permutation(rows)[: samples * m]].reshape(shape)
    return picked


def rows(table: Tensor) -> InputLaw:
    """Rows of a real data set, shape (rows, n): each trial takes samples * m of them, at random."""
    require(table.ndim == 2, "inputs", tuple(table.shape), "pass a tensor of shape (rows, n)")
    require(bool(table.isfinite().all()), "inputs", "a tensor", "it contains NaN or infinity")
    return functools.partial(_rows, table=table.to(torch.float32).numpy())


def digits() -> InputLaw:
    """scikit-learn's handwritten digits, 1797 rows: the 48 pixels active in over 10 % of them."""
    from sklearn.datasets import load_digits

    images = load_digits().data
    active = (images > 0).mean(axis=0) > 0.1
    return rows(torch.from_numpy(images[:, active]))


_LAWS: dict[str, Callable[..., InputLaw]] = {
    law.__name__: law
    for law in (gaussian, correlated, exponential, uniform, bernoulli, student_t, digits)
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
