"""How much of training should be quantized: float training first, k-level weights after it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ste_lightning.errors import require, unknown
from ste_lightning.functional import replace_value, surrogate
from ste_lightning.theory.grids import GAUSSIAN_STEPS
from ste_lightning.theory.oscillating_networks import level_weights
from ste_lightning.theory.small_networks import (
    Networks,
    accuracy,
    backward,
    losses,
    minibatches,
    relu,
)
from ste_lightning.theory.tasks import task

__all__ = ["COOLDOWNS", "learning_rate", "train_share"]

COOLDOWNS = ("fused", "separate")
_LAST = 0.2  # of the float phase, in which its own cool-down falls to 0


def learning_rate(cooldown: str, share: float, progress: float) -> float:
    """Return the factor of the learning rate.

    ``fused``: 1 until quantization begins at 1 - share, then linearly to 0. ``separate``: the
    float phase falls to 0 over its own last fifth, and the quantized one begins at 1 again.

    Args:
        cooldown: ``fused`` or ``separate``.
        share: of the training that is quantized.
        progress: of the training, 0 to 1.
    """
    begin = 1 - share
    if progress >= begin:
        return (1 - progress) / share if share else 0.0
    if cooldown == "fused":
        return 1.0
    return min(1.0, (begin - progress) / (_LAST * begin))


def train_share(
    *,
    n: int,
    samples: int = 1200,
    trials: int = 16,
    steps: int = 400,
    lr: float = 0.01,
    batch_size: int = 64,
    depth: int = 2,
    levels: int = 4,
    share: float = 0.3,
    cooldown: str = "fused",
    inputs: str = "digits",
    seed: int = 0,
) -> dict[str, list[Any]]:
    """Train perceptrons in float, then for a share of the steps with all weights on k levels.

    Adam; ReLUs in float; :func:`learning_rate` says how the step size falls. The total number of
    steps is the same for every share.

    Args:
        n: width of the hidden layers, and the inputs of planted rows.
        samples: training rows.
        trials: networks, each with its own data and start.
        steps: minibatches of both phases together.
        lr: Adam's largest learning rate.
        batch_size: rows of a minibatch.
        depth: hidden layers.
        levels: k of the weights: 2, 3 (ternary), 4, 8 or 16.
        share: of the steps that are quantized, 0 (rounded at the end) to 1.
        cooldown: ``fused`` or ``separate``.
        inputs: ``digits`` or ``planted``.
        seed: of everything random.

    Returns:
        Columns ``trial``, ``loss`` (cross-entropy on the test rows, weights on their levels),
        ``fit`` (the same on the training rows), ``accuracy`` (on the test rows).

    Source: Dremov et al. 2025, arXiv 2509.22935 (on language models).
    """
    if cooldown not in COOLDOWNS:
        raise unknown("cooldown", cooldown, COOLDOWNS)
    require(levels in GAUSSIAN_STEPS, "levels", levels, f"use one of {list(GAUSSIAN_STEPS)}")
    require(0 <= share <= 1, "share", share, "use a number from 0 to 1")
    require(steps > 0, "steps", steps, "use a positive integer")
    given = task(inputs, n=n, samples=samples, trials=trials, depth=depth, seed=seed)
    net = Networks([given.rows.shape[2], *[n] * depth, given.classes], trials, seed)
    optimizer = torch.optim.Adam(net.parameters, lr=lr)
    rule = surrogate("identity")
    begin = steps - round(share * steps)

    def rounded(layer: int, latent: Tensor) -> Tensor:
        codes, distance = level_weights(latent, levels)
        return replace_value(latent, (codes - (levels - 1) / 2) * distance, rule)

    for step, (rows, labels) in enumerate(minibatches(given, batch_size, steps, seed)):
        factor = learning_rate(cooldown, (steps - begin) / steps, step / steps)
        optimizer.param_groups[0]["lr"] = lr * factor
        outputs = net(rows, rounded if step >= begin else _float, relu)
        optimizer.zero_grad()
        backward(outputs, labels)
        optimizer.step()
    with torch.no_grad():
        found = [net(rows, rounded, relu) for rows in (given.test_rows, given.rows)]
    return {
        "trial": list(range(trials)),
        "loss": losses(found[0], given.test_labels).tolist(),
        "fit": losses(found[1], given.labels).tolist(),
        "accuracy": accuracy(found[0], given.test_labels).tolist(),
    }


def _float(layer: int, latent: Tensor) -> Tensor:
    return latent
