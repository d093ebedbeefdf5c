r"""Do the signs of a layer in a real binary network recur as the drift of its weights predicts?

In the two-layer model with noisy labels each latent weight is a sawtooth, wrong a share p of the
time, and p follows from the drift near w* (:mod:`.prediction`, :mod:`.coupling`). A layer of a
network on real data has no w*; in its place stand the signs r that it has most of the time. With
everything else held and all rows in every step, its update is again x <- x - eta g(sign x), so the
same two predictions can be made from gradients at and near r:

    alone    p_i = max(a_i, 0) / M_ii           coupled   0 <= p <= 1, a - M p <= 0 where p < 1, ...

with h(s) = a - M s the drift where the signs s are other than r. They are held against the shares
of time of a second run from another start, and against what the first run says about the second
(the ceiling). Minibatches, and other layers that train as well, are what the model leaves out.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from ste_lightning.errors import require
from ste_lightning.functional import sign, surrogate
from ste_lightning.theory.coupling import occupation
from ste_lightning.theory.small_networks import Networks, backward, minibatches
from ste_lightning.theory.statistics import correlation
from ste_lightning.theory.tasks import Task, task

__all__ = ["train_recurring_layer"]

_LAYER = 1  # hidden to hidden
_ROUNDS = 3  # of random patterns, besides the single flips
_BATCH = 64


def _weight(layer: int, latent: Tensor) -> Tensor:
    return sign(latent, "identity") if layer <= _LAYER else latent


def _activation(layer: int, a: Tensor) -> Tensor:
    return sign(a, surrogate("clipped"))


def _outputs(net: Networks, rows: Tensor) -> Tensor:
    return net(rows, _weight, _activation)


def train_recurring_layer(
    *,
    n: int,
    samples: int = 600,
    trials: int = 8,
    steps: int = 2000,
    warm: int = 200,
    batch_size: int | None = None,
    others: bool = False,
    seed: int = 0,
) -> dict[str, list[Any]]:
    """Train binary networks on digits, then watch one layer's signs at a constant step size.

    Two layers of ``n`` units with binary weights and activations, and a float last one. After
    ``warm`` steps of Adam the second layer's latent weights start anew and descend for ``steps``
    steps, of which the second half counts; twice, from two starts.

    Args:
        n: width of the hidden layers; the layer has n * n weights.
        samples: training rows.
        trials: networks.
        steps: of each run.
        warm: minibatches of 64 before.
        batch_size: rows of a step of the runs; None: all of them.
        others: whether all other parameters train as well, by Adam at a tenth of its rate.
        seed: of everything random.

    Returns:
        Columns ``trial``; ``alone``, ``coupled``, ``ceiling``: correlation over the weights of the
        share of time at the rarer sign in the second run with the two predictions and with the
        first run; ``share``, its mean; ``expected``, what the coupled prediction says of it.
    """
    for argument, value in {"steps": steps, "warm": warm}.items():
        require(value > 1, argument, value, "use at least 2")
    given = task("digits", n=n, samples=samples, trials=trials, depth=2, seed=seed)
    net = Networks([given.rows.shape[2], n, n, given.classes], trials, seed)
    optimizer = torch.optim.Adam(net.parameters, lr=0.01)
    for rows, labels in minibatches(given, _BATCH, warm, seed):
        optimizer.zero_grad()
        backward(_outputs(net, rows), labels)
        optimizer.step()
    draw = torch.Generator().manual_seed(seed)
    net.weights[_LAYER] = sign(net.weights[_LAYER].detach(), "identity").requires_grad_()
    first, often = (_run(net, given, steps, batch_size, others, seed + k, draw) for k in (1, 2))
    usual = torch.where(first >= 0.5, 1.0, -1.0)
    adverse, matrix = _drift(net, given, usual, draw)
    alone = (adverse.clamp(min=0) / matrix.diagonal(dim1=1, dim2=2).clamp(min=1e-9)).clamp(max=1)
    coupled = occupation(adverse, matrix)
    seen, before = (torch.where(usual > 0, 1 - f, f).flatten(1) for f in (often, first))

    def correlations(x: Tensor) -> list[float]:
        return [correlation(a, b, replicates=2).value for a, b in zip(x, seen, strict=True)]

    return {
        "trial": list(range(trials)),
        "alone": correlations(alone),
        "coupled": correlations(coupled),
        "ceiling": correlations(before.double()),
        "share": seen.mean(1).tolist(),
        "expected": coupled.mean(1).tolist(),
    }


def _gradient(
    net: Networks, signs: Tensor, rows: Tensor, labels: Tensor, others: bool = False
) -> Tensor:
    """Return the gradients of the layer's weights where it has these signs; perhaps set others'."""
    there = copy.copy(net)
    there.weights = [*net.weights]
    if not others:
        there.weights, there.shifts, there.gains = (
            [p.detach() for p in parameters] for parameters in (net.weights, net.shifts, net.gains)
        )
    there.weights[_LAYER] = signs.detach().requires_grad_()
    for parameter in there.parameters:
        parameter.grad = None
    backward(_outputs(there, rows), labels)
    gradient = there.weights[_LAYER].grad
    assert gradient is not None
    return gradient


def _run(
    net: Networks,
    given: Task,
    steps: int,
    batch_size: int | None,
    others: bool,
    seed: int,
    draw: torch.Generator,
) -> Tensor:
    """Return the share of time that each weight of the layer is positive in the second half."""
    net = copy.deepcopy(net)
    signs = net.weights[_LAYER].detach()
    pace = _gradient(net, signs, given.rows, given.labels).abs().mean((1, 2), keepdim=True)
    x = signs * torch.rand(signs.shape, generator=draw) * 4 * pace
    adam = torch.optim.Adam([p for p in net.parameters if p is not net.weights[_LAYER]], lr=0.001)
    positive = torch.zeros_like(x)
    batches = minibatches(given, batch_size or given.rows.shape[1], steps, seed)
    for step, (rows, labels) in enumerate(batches):
        signs = torch.where(x >= 0, 1.0, -1.0)
        if step >= steps // 2:
            positive += signs > 0
        x = x - _gradient(net, signs, rows, labels, others)
        if others:
            adam.step()
    return positive / (steps - steps // 2)


def _drift(
    net: Networks, given: Task, usual: Tensor, draw: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return a (trials, W) and M (trials, W, W) of h(s) = a - M s near the usual signs.

    Every trial by itself: its flips are networks side by side. M is fitted as in
    :func:`ste_lightning.theory.coupling.linear_drift`.
    """
    trials, count = len(usual), usual[0].numel()
    adverse, matrices = [], []
    for t in range(trials):
        alone = torch.eye(count, dtype=torch.bool)
        patterns = torch.cat([torch.zeros(1, count, dtype=torch.bool), alone])
        away = _drifts(net, given, t, usual[t], patterns)
        a, wrong, taken = away[0], [alone], [away[0] - away[1:]]
        matrix = taken[0].T
        for _ in range(_ROUNDS):
            p = occupation(a[None], matrix[None])[0]
            wrong.append(torch.rand(count, count, generator=draw) < p)
            taken.append(a - _drifts(net, given, t, usual[t], wrong[-1]))
            s, d = torch.cat(wrong).double(), torch.cat(taken)
            matrix = torch.linalg.solve(s.T @ s, s.T @ d).T
        adverse.append(a)
        matrices.append(matrix)
    return torch.stack(adverse), torch.stack(matrices)


def _drifts(net: Networks, given: Task, trial: int, usual: Tensor, wrong: Tensor) -> Tensor:
    """Return h, positive away from the usual signs, for patterns (K, W) of one trial."""
    side = copy.copy(net)
    k = len(wrong)

    def repeated(parameters: list[Tensor]) -> list[Tensor]:
        shape = [p[trial : trial + 1].detach().expand(k, *p.shape[1:]) for p in parameters]
        return [p.clone() for p in shape]

    side.weights, side.shifts, side.gains = (
        repeated(p) for p in (net.weights, net.shifts, net.gains)
    )
    signs = torch.where(wrong.view(k, *usual.shape), -usual, usual)
    rows = given.rows[trial : trial + 1].expand(k, -1, -1)
    labels = given.labels[trial : trial + 1].expand(k, -1)
    return (_gradient(side, signs, rows, labels) * usual).flatten(1).double()
