"""Which window is best for the hidden signs of a binary network on real digits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ste_lightning.errors import require
from ste_lightning.functional import sign, surrogate
from ste_lightning.theory.small_networks import (
    Networks,
    accuracy,
    backward,
    losses,
    minibatches,
)
from ste_lightning.theory.tasks import task

__all__ = ["train_window_network"]


def train_window_network(
    *,
    n: int,
    samples: int = 1200,
    trials: int = 8,
    steps: int = 300,
    lr: float = 0.01,
    batch_size: int = 64,
    depth: int = 2,
    width: float = 1.0,
    inputs: str = "digits",
    seed: int = 0,
) -> dict[str, list[Any]]:
    """Train perceptrons with binary weights and activations, by one window for all hidden signs.

    Batch norm gives every pre-activation the variance 1 of the two-layer model with w of length 1,
    so widths can be compared. Adam, the rate falling linearly to 0; the last layer stays float.

    Args:
        n: width of the hidden layers, and the inputs of planted rows.
        samples: training rows.
        trials: networks, each with its own data and start.
        steps: minibatches.
        lr: Adam's largest learning rate.
        batch_size: rows of a minibatch.
        depth: hidden layers.
        width: of the rule f' = 1 where abs(a) <= width.
        inputs: ``digits`` or ``planted``.
        seed: of everything random.

    Returns:
        Columns ``trial``, ``loss`` and ``accuracy`` on the test rows, ``fit`` (loss on the
        training rows).
    """
    require(steps > 0, "steps", steps, "use a positive integer")
    given = task(inputs, n=n, samples=samples, trials=trials, depth=depth, seed=seed)
    net = Networks([given.rows.shape[2], *[n] * depth, given.classes], trials, seed)
    optimizer = torch.optim.Adam(net.parameters, lr=lr)
    identity, window = surrogate("identity"), surrogate({"rule": "clipped", "width": width})

    def weight(layer: int, latent: Tensor) -> Tensor:
        return latent if layer == depth else sign(latent, identity)

    def activation(layer: int, a: Tensor) -> Tensor:
        return sign(a, window)

    for step, (rows, labels) in enumerate(minibatches(given, batch_size, steps, seed)):
        optimizer.param_groups[0]["lr"] = lr * (1 - step / steps)
        outputs = net(rows, weight, activation)
        optimizer.zero_grad()
        backward(outputs, labels)
        optimizer.step()
    with torch.no_grad():
        test, fit = (net(rows, weight, activation) for rows in (given.test_rows, given.rows))
    return {
        "trial": list(range(trials)),
        "loss": losses(test, given.test_labels).tolist(),
        "accuracy": accuracy(test, given.test_labels).tolist(),
        "fit": losses(fit, given.labels).tolist(),
    }
