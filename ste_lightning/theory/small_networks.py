"""Many multilayer perceptrons side by side: a step of all trials is one batched product a layer.

What Lightning's loop is for one network, this is for dozens of tiny ones, which it would take
minutes to start. Weights are (trials, inputs, outputs), rows (trials, rows, inputs).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from ste_lightning.errors import require
from ste_lightning.models.streams import Stream, generator
from ste_lightning.theory.tasks import Task

__all__ = ["Networks", "accuracy", "backward", "losses", "minibatches", "relu"]

_EPSILON = 1e-5


class Networks:
    """Perceptrons of equal layers with batch norm after each but the last product.

    Args:
        sizes: inputs, hidden widths, outputs.
        trials: how many networks.
        seed: of the starts.

    Attributes:
        weights: a layer's latent weights, (trials, inputs, outputs).
        shifts: batch norm's shift, (trials, 1, outputs), of every layer; the last's is a bias.
        gains: batch norm's factor of the hidden layers.
    """

    def __init__(self, sizes: list[int], trials: int, seed: int) -> None:
        draws = [generator(seed, Stream.WEIGHT, t) for t in range(trials)]
        self.weights = [
            torch.from_numpy(
                np.stack([g.standard_normal((a, b), dtype=np.float32) for g in draws]) / a**0.5
            ).requires_grad_()
            for a, b in itertools.pairwise(sizes)
        ]
        self.shifts = [torch.zeros(trials, 1, b, requires_grad=True) for b in sizes[1:]]
        self.gains = [torch.ones(trials, 1, b, requires_grad=True) for b in sizes[1:-1]]

    @property
    def parameters(self) -> list[Tensor]:
        """All that is trained."""
        return [*self.weights, *self.shifts, *self.gains]

    def __call__(
        self,
        rows: Tensor,
        weight: Callable[[int, Tensor], Tensor],
        activation: Callable[[int, Tensor], Tensor],
    ) -> Tensor:
        """Return the outputs, (trials, rows, classes).

        Batch norm takes the statistics of the rows given, in training and in evaluation alike:
        with hundreds of test rows that is a re-estimation.

        Args:
            rows: (trials, rows, inputs).
            weight: layer, latent weights -> what multiplies.
            activation: hidden layer, normalized pre-activations -> what goes on.
        """
        h, last = rows, len(self.weights) - 1
        for layer, latent in enumerate(self.weights):
            h = torch.bmm(h, weight(layer, latent))
            if layer < last:
                mean = h.mean(1, keepdim=True)
                h = (h - mean) * (h.var(1, keepdim=True, correction=0) + _EPSILON).rsqrt()
                h = activation(layer, torch.addcmul(self.shifts[layer], h, self.gains[layer]))
        return h + self.shifts[last]


def minibatches(given: Task, size: int, steps: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield ``steps`` batches of the training rows, the same places for all trials, by epochs."""
    rows, rng = given.rows.shape[1], generator(seed, Stream.BATCHES, 0)
    require(0 < size <= rows, "batch_size", size, f"use 1 to samples={rows}")
    order, place = rng.permutation(rows), 0
    for _ in range(steps):
        if place + size > rows:
            order, place = rng.permutation(rows), 0
        picked = torch.from_numpy(order[place : place + size])
        place += size
        yield given.rows[:, picked], given.labels[:, picked]


def backward(outputs: Tensor, labels: Tensor) -> None:
    """Compute the gradients of every trial's own mean cross-entropy."""
    loss = cross_entropy(outputs.flatten(0, 1), labels.flatten(), reduction="sum")
    (loss / labels.shape[1]).backward()  # type: ignore[no-untyped-call]


def relu(layer: int, a: Tensor) -> Tensor:
    """Return the activations of every hidden layer."""
    return a.relu()


def losses(outputs: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy of every trial."""
    flat = cross_entropy(outputs.flatten(0, 1), labels.flatten(), reduction="none")
    return flat.view(len(labels), -1).mean(1)


def accuracy(outputs: Tensor, labels: Tensor) -> Tensor:
    """Return the share of right classes of every trial."""
    return (outputs.argmax(2) == labels).float().mean(1)
