"""Networks on digits with k-level weights: does swinging between levels help or hurt?"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ste_lightning.errors import require, unknown
from ste_lightning.functional import replace_value, surrogate
from ste_lightning.theory.grids import GAUSSIAN_STEPS, nearest
from ste_lightning.theory.oscillation import METHODS, Freezer, pull
from ste_lightning.theory.small_networks import (
    Networks,
    accuracy,
    backward,
    losses,
    minibatches,
    relu,
)
from ste_lightning.theory.tasks import task

__all__ = ["level_weights", "train_oscillating_network"]

_MOMENTUM = 0.9  # of the descent


def level_weights(latent: Tensor, levels: int) -> tuple[Tensor, Tensor]:
    """Return the numbers of the nearest levels and the levels' distance, per trial.

    Args:
        latent: (trials, inputs, outputs).
        levels: how many.
    """
    rms = latent.detach().square().mean((1, 2), keepdim=True).sqrt()
    distance = GAUSSIAN_STEPS[levels] * rms
    return nearest(latent.detach(), levels, distance), distance


def train_oscillating_network(
    *,
    n: int,
    samples: int = 1000,
    trials: int = 16,
    steps: int = 600,
    lr: float = 0.1,
    batch_size: int = 64,
    depth: int = 2,
    levels: int = 4,
    method: str = "qat",
    strength: float = 0.0,
    seed: int = 0,
) -> dict[str, list[Any]]:
    """Train perceptrons on scikit-learn's digits, all weights on k levels, by one method.

    The methods are those of :func:`ste_lightning.theory.oscillation.train_oscillating`, by SGD
    with momentum 0.9 and a learning rate that falls linearly to 0 over the last half (Adam would
    divide push and loss by their common size); activations are ReLUs in float. The levels'
    distance follows the weights' root mean square.

    Args:
        n: width of the hidden layers.
        samples: training images of the 1797; the rest are the test.
        trials: networks, each with its own split and start.
        steps: minibatches.
        lr: learning rate.
        batch_size: rows of a minibatch.
        depth: hidden layers.
        levels: k of the weights: 2, 3 (ternary), 4, 8 or 16.
        method: ``qat``, ``regularized``, ``dampened`` or ``frozen`` (in the second half).
        strength: of the push or pull, in units of the loss.
        seed: of everything random.

    Returns:
        Columns ``trial``, ``accuracy`` and ``loss`` on the test images, with the weights on
        their levels, ``changes`` (share of weights that change level in a step, of the second
        half).
    """
    if method not in METHODS:
        raise unknown("method", method, METHODS)
    require(levels in GAUSSIAN_STEPS, "levels", levels, f"use one of {list(GAUSSIAN_STEPS)}")
    require(steps > 1, "steps", steps, "use at least 2")
    given = task("digits", n=n, samples=samples, trials=trials, depth=depth, seed=seed)
    net = Networks([64, *[n] * depth, 10], trials, seed)
    optimizer = torch.optim.SGD(net.parameters, lr=lr, momentum=_MOMENTUM)
    codes = [level_weights(latent, levels)[0] for latent in net.weights]
    freezers: list[Freezer] = []
    rule = surrogate("identity")

    def value(layer: int, latent: Tensor) -> Tensor:
        found, distance = level_weights(latent, levels)
        if freezers:
            found = torch.where(freezers[layer].frozen, freezers[layer].level, found)
        return (found - (levels - 1) / 2) * distance

    def weight(layer: int, latent: Tensor) -> Tensor:
        if method == "regularized":
            return latent
        return replace_value(latent, value(layer, latent), rule)

    changes, late = torch.zeros(trials), 0
    for step, (rows, labels) in enumerate(minibatches(given, batch_size, steps, seed)):
        optimizer.param_groups[0]["lr"] = lr * min(1.0, 2 * (steps - step) / steps)
        outputs = net(rows, weight, relu)
        optimizer.zero_grad()
        backward(outputs, labels)
        with torch.no_grad():
            for layer, latent in enumerate(net.weights):
                assert latent.grad is not None
                latent.grad += pull(method, strength, latent, value(layer, latent))
                if freezers:
                    latent.grad *= ~freezers[layer].frozen
            optimizer.step()
            if method == "frozen" and step == steps // 2:
                freezers = [Freezer(c) for c in codes]
            before = codes
            codes = [level_weights(latent, levels)[0] for latent in net.weights]
            if freezers:
                codes = [f.step(c) for f, c in zip(freezers, codes, strict=True)]
            if 2 * step >= steps:
                late += 1
                moved = [(a != b).flatten(1) for a, b in zip(codes, before, strict=True)]
                changes += torch.cat(moved, 1).float().mean(1)
    with torch.no_grad():
        outputs = net(given.test_rows, value, relu)
    return {
        "trial": list(range(trials)),
        "accuracy": accuracy(outputs, given.test_labels).tolist(),
        "loss": losses(outputs, given.test_labels).tolist(),
        "changes": (changes / late).tolist(),
    }
