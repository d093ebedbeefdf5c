"""Which of a binary network's iterates to keep: the last, the vote of signs, or averaged latents.

Averaging does not change the training, so one training gives all four networks, on equal data.
What :class:`ste_lightning.callbacks.SignAveraging` does to any network is done here to dozens of
small ones at once.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from ste_lightning.data.wrong_labels import check_share, with_wrong_labels
from ste_lightning.errors import require, unknown
from ste_lightning.functional import hard_sign, sign, surrogate
from ste_lightning.theory.small_networks import Networks, accuracy, backward, minibatches
from ste_lightning.theory.tasks import task

__all__ = ["KEPT", "SCHEDULES", "train_votes"]

KEPT = ("last", "vote", "swa", "ema")
SCHEDULES = ("constant", "linear")
_BEGIN = 0.5  # of the training, after which iterates count
_DECAY = 0.99  # of the exponential average


def train_votes(
    *,
    n: int,
    samples: int = 1200,
    trials: int = 10,
    steps: int = 400,
    lr: float = 0.01,
    batch_size: int = 64,
    depth: int = 2,
    wrong_labels: float = 0.0,
    schedule: str = "constant",
    inputs: str = "digits",
    seed: int = 0,
) -> dict[str, list[Any]]:
    r"""Train perceptrons with binary weights and activations, and test four of their iterates.

    With :math:`s_t = \operatorname{sign}(x_t)` the weights of step t of T, they are

    - ``last``: :math:`s_T`;
    - ``vote``: :math:`\operatorname{sign} \sum_{t > T/2} s_t`, the averaged iterate of the theory
      (a weight whose votes are equal keeps its present sign);
    - ``swa``: :math:`\operatorname{sign} \sum_{t > T/2} x_t`, stochastic weight averaging of the
      latent weights;
    - ``ema``: the sign of their exponential average, of decay 0.99, over the same steps.

    The last layer, in float, and batch norm's factors are those of the last step for all four;
    batch norm takes the statistics of the test rows. Adam; the window of the
    activations is 1.

    Args:
        n: width of the hidden layers, and the inputs of planted rows.
        samples: training rows.
        trials: networks, each with its own data and start.
        steps: minibatches.
        lr: Adam's learning rate.
        batch_size: rows of a minibatch.
        depth: hidden layers.
        wrong_labels: share of the training labels that are moved to another class at random.
        schedule: ``constant``, or ``linear``: the rate falls to 0.
        inputs: ``digits``, ``mnist5000``, ``fashion_mnist`` or ``planted``.
        seed: of everything random.

    Returns:
        Columns ``trial``; ``last``, ``vote``, ``swa`` and ``ema``, accuracies on the test rows;
        ``moved``, the share of binary weights in which vote and last iterate differ.

    Source: the vote is the averaged iterate of Jeong et al., arXiv 2505.18113; averages of latent
    weights are those of Izmailov et al. 2018, arXiv 1803.05407.
    """
    if schedule not in SCHEDULES:
        raise unknown("schedule", schedule, SCHEDULES)
    require(steps > 1, "steps", steps, "use at least 2")
    check_share(wrong_labels)
    given = task(inputs, n=n, samples=samples, trials=trials, depth=depth, seed=seed)
    for trial, labels in enumerate(given.labels):
        labels.copy_(with_wrong_labels(labels, wrong_labels, given.classes, seed + trial))
    net = Networks([given.rows.shape[2], *[n] * depth, given.classes], trials, seed)
    optimizer = torch.optim.Adam(net.parameters, lr=lr)
    identity, window = surrogate("identity"), surrogate("clipped")
    binary = net.weights[:-1]
    votes, sums, means = ([torch.zeros_like(w) for w in binary] for _ in range(3))

    def activation(layer: int, a: Tensor) -> Tensor:
        return sign(a, window)

    def trained(layer: int, latent: Tensor) -> Tensor:
        return latent if layer == depth else sign(latent, identity)

    for step, (rows, labels) in enumerate(minibatches(given, batch_size, steps, seed)):
        if schedule == "linear":
            optimizer.param_groups[0]["lr"] = lr * (1 - step / steps)
        outputs = net(rows, trained, activation)
        optimizer.zero_grad()
        backward(outputs, labels)
        optimizer.step()
        if step >= _BEGIN * steps:
            for k, latent in enumerate(w.detach() for w in binary):
                votes[k] += hard_sign(latent)
                sums[k] += latent
                means[k].lerp_(latent, 1 - _DECAY)
    last = [hard_sign(w.detach()) for w in binary]
    kept = {
        "last": last,
        "vote": [torch.where(v == 0, s, hard_sign(v)) for v, s in zip(votes, last, strict=True)],
        "swa": [hard_sign(x) for x in sums],
        "ema": [hard_sign(x) for x in means],
    }
    columns: dict[str, list[Any]] = {"trial": list(range(trials))}
    with torch.no_grad():
        for name, signs in kept.items():
            found = net(given.test_rows, functools.partial(_chosen, signs), activation)
            columns[name] = accuracy(found, given.test_labels).tolist()
    apart = [(a != b).flatten(1) for a, b in zip(last, kept["vote"], strict=True)]
    columns["moved"] = torch.cat(apart, 1).float().mean(1).tolist()
    return columns


def _chosen(signs: list[Tensor], layer: int, latent: Tensor) -> Tensor:
    return signs[layer] if layer < len(signs) else latent
