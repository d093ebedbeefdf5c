"""Rows of real data sets as inputs of the teacher-student problem."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ste_lightning.errors import require, unknown

__all__ = [
    "Array",
    "InputLaw",
    "Shape",
    "breast_cancer",
    "digits",
    "fashion_mnist",
    "normal_like",
    "rows",
    "wine",
]

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


def _digits(active: float = 0.1) -> Tensor:
    from sklearn.datasets import load_digits

    images = load_digits().data
    return torch.from_numpy(images[:, (images > 0).mean(axis=0) > active])


def _breast_cancer() -> Tensor:
    from sklearn.datasets import load_breast_cancer

    return torch.from_numpy(load_breast_cancer().data)


def _wine() -> Tensor:
    from sklearn.datasets import load_wine

    return torch.from_numpy(load_wine().data)


def digits(active: float = 0.1) -> InputLaw:
    """scikit-learn's handwritten digits, 1797 rows: the pixels active in more than this share.

    By default 48 pixels; with ``active=0.0`` the 61 that are ever active.
    """
    require(0 <= active < 1, "active", active, "use a share in [0, 1)")
    return rows(_digits(active))


def breast_cancer() -> InputLaw:
    """scikit-learn's breast cancer measurements: 569 rows, 30 features, hardly independent."""
    return rows(_breast_cancer())


def wine() -> InputLaw:
    """scikit-learn's wines: 178 rows, 13 features of very different scales."""
    return rows(_wine())


@functools.cache
def _fashion_mnist() -> Tensor:
    from ste_lightning.data.mnist import FashionMNIST

    images = torch.as_tensor(FashionMNIST().read()[0].images).float()
    return torch.nn.functional.avg_pool2d(images, 4).flatten(1)


def fashion_mnist() -> InputLaw:
    """Garments of Fashion-MNIST, 60,000 rows: means over blocks of 4 x 4, 49 of them.

    Needs the files of Debian's package ``dataset-fashion-mnist``.
    """
    return rows(_fashion_mnist())


def _normal(rng: np.random.Generator, shape: Shape, mean: Array, root: Array) -> Array:
    columns = len(mean)
    require(
        shape[2] == columns, "n", shape[2], f"the rows have {columns} features, use n={columns}"
    )
    drawn: Array = mean + rng.standard_normal(shape, dtype=np.float32) @ root
    return drawn


def normal_like(table: str = "digits") -> InputLaw:
    """Normal rows with the mean and the covariance of real ones.

    What real rows have beyond their first two moments is what sets the two apart.

    Args:
        table: ``digits`` (48 pixels), ``fashion_mnist`` (49), ``breast_cancer`` or ``wine``.
    """
    tables: dict[str, Callable[[], Tensor]] = {
        "digits": _digits,
        "fashion_mnist": _fashion_mnist,
        "breast_cancer": _breast_cancer,
        "wine": _wine,
    }
    if table not in tables:
        raise unknown("table", table, tables)
    x = tables[table]().double()
    size, direction = torch.linalg.eigh(torch.cov(x.T))
    root = (size.clamp(min=0).sqrt()[:, None] * direction.T).float()
    return functools.partial(_normal, mean=x.mean(0).float().numpy(), root=root.numpy())
