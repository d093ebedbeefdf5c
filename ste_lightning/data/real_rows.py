"""Rows of real data sets as inputs of the teacher-student problem."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ste_lightning.errors import require

__all__ = ["Array", "InputLaw", "Shape", "breast_cancer", "digits", "rows", "wine"]

Array = npt.NDArray[np.float32]
Shape = tuple[int, int, int]
InputLaw = Callable[[np.random.Generator, Shape], Array]
"""Draws one trial's inputs of shape (samples, m, n) from a generator."""


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


def digits(active: float = 0.1) -> InputLaw:
    """scikit-learn's handwritten digits, 1797 rows: the pixels active in more than this share.

    By default 48 pixels; with ``active=0.0`` the 61 that are ever active.
    """
    from sklearn.datasets import load_digits

    require(0 <= active < 1, "active", active, "use a share in [0, 1)")
    images = load_digits().data
    return rows(torch.from_numpy(images[:, (images > 0).mean(axis=0) > active]))


def breast_cancer() -> InputLaw:
    """scikit-learn's breast cancer measurements: 569 rows, 30 features, hardly independent."""
    from sklearn.datasets import load_breast_cancer

    return rows(torch.from_numpy(load_breast_cancer().data))


def wine() -> InputLaw:
    """scikit-learn's wines: 178 rows, 13 features of very different scales."""
    from sklearn.datasets import load_wine

    return rows(torch.from_numpy(load_wine().data))
