"""The order in which a deep network's layers are made binary."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ste_lightning.errors import require, unknown
from ste_lightning.functional import hard_sign
from ste_lightning.models.streams import Stream, generator
from ste_lightning.theory.small_networks import Networks, accuracy, backward, minibatches
from ste_lightning.theory.tasks import task

__all__ = ["ORDERS", "hardened", "train_in_order"]

ORDERS = ("front", "back", "together", "start")
_UNTIL = 0.8  # of the training; the rest is trained with everything binary
_PARTS = ("both", "weights", "activations")


def hardened(order: str, layer: int, depth: int, progress: float) -> float:
    """Return the share of a layer's entries that are binary.

    Layers take turns of equal length: the front one first (``front``) or the back one
    (``back``); or all grow together, or are binary from the start.

    Args:
        order: one of :data:`ORDERS`.
        layer: 0 at the front.
        depth: how many layers are to be binary.
        progress: of the training, 0 to 1; at 0.8 all are binary.
    """
    turn = {"front": layer, "back": depth - 1 - layer}.get(order)
    if turn is None:
        share = 1.0 if order == "start" else progress / _UNTIL
    else:
        share = progress / _UNTIL * depth - turn
    return min(max(share, 0.0), 1.0)


class _Harden(torch.autograd.Function):
    """clip(x, -1, 1), and sign(x) where ``mask``; the gradient there passes or is 0."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, mask: Tensor, passes: bool) -> Tensor:
        inside = x.abs() <= 1
        ctx.save_for_backward(inside if passes else inside & ~mask)
        return torch.where(mask, hard_sign(x), x.clamp(-1, 1))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (open_,) = ctx.saved_tensors
        return grads[0] * open_, None, None


def train_in_order(
    *,
    n: int,
    samples: int = 1000,
    trials: int = 16,
    steps: int = 800,
    lr: float = 0.01,
    batch_size: int = 64,
    depth: int = 3,
    order: str = "front",
    part: str = "both",
    gradient: str = "blocked",
    inputs: str = "digits",
    seed: int = 0,
) -> dict[str, list[Any]]:
    r"""Train perceptrons whose hidden layers become binary entry by entry, in some order.

    Weights and activations are clip(x, -1, 1); an entry that is binary is sign(x) instead. Which
    ones are is a random order drawn once for each weight and unit, up to the share that
    :func:`hardened` gives the layer. ``blocked``: a binary entry passes no gradient, so once a
    layer's activations are all binary nothing before it learns any more, and back to front stops
    the whole network at the first turn. ``passed``: it passes the clip's, the straight-through
    estimator; with ``order="start"`` that is ordinary binary training. The last layer stays float.

    Args:
        n: width of the hidden layers, and the inputs of planted rows.
        samples: training rows.
        trials: networks, each with its own data and start.
        steps: minibatches, of Adam.
        lr: Adam's learning rate, falling linearly to 0 over the last fifth.
        batch_size: rows of a minibatch.
        depth: hidden layers.
        order: ``front`` (front to back), ``back`` (back to front), ``together`` or ``start``.
        part: what becomes binary: ``weights``, ``activations`` or ``both``.
        gradient: ``blocked`` or ``passed`` at binary entries.
        inputs: ``digits``, or ``planted`` (classes by a binary network of the same depth).
        seed: of everything random.

    Returns:
        Columns ``trial``, ``accuracy`` (of the binary network on the test rows), ``fit`` (on the
        training rows).

    Source: Smith and Islam 2026, arXiv 2606.27759 (StoMPP; without its refreshing of the masks).
    """
    for argument, value, known in (
        ("order", order, ORDERS),
        ("part", part, _PARTS),
        ("gradient", gradient, ("blocked", "passed")),
    ):
        if value not in known:
            raise unknown(argument, value, known)
    require(steps > 0, "steps", steps, "use a positive integer")
    given = task(inputs, n=n, samples=samples, trials=trials, depth=depth, seed=seed)
    net = Networks([given.rows.shape[2], *[n] * depth, given.classes], trials, seed)
    with torch.no_grad():
        for latent in net.weights[:-1]:
            latent *= 0.5 * latent.shape[1] ** 0.5  # batch norm sees no scale; clip does
    draw = torch.Generator().manual_seed(int(generator(seed, Stream.SHIFTS, 0).integers(2**31)))
    turns = [
        (torch.rand(w.shape, generator=draw), torch.rand(trials, 1, n, generator=draw))
        for w in net.weights[:-1]
    ]
    optimizer = torch.optim.Adam(net.parameters, lr=lr)
    progress, passes = 0.0, gradient == "passed"

    def harden(layer: int, x: Tensor, which: str) -> Tensor:
        chosen = part in ("both", which)
        share = hardened(order, layer, depth, progress) if chosen else 0.0
        mask = turns[layer][which == "activations"] < share
        out: Tensor = _Harden.apply(x, mask, passes)  # type: ignore[no-untyped-call]
        return out

    def weight(layer: int, latent: Tensor) -> Tensor:
        return latent if layer == depth else harden(layer, latent, "weights")

    def activation(layer: int, a: Tensor) -> Tensor:
        return harden(layer, a, "activations")

    for step, (rows, labels) in enumerate(minibatches(given, batch_size, steps, seed)):
        progress = step / steps
        optimizer.param_groups[0]["lr"] = lr * min(1.0, (1 - progress) / (1 - _UNTIL))
        outputs = net(rows, weight, activation)
        optimizer.zero_grad()
        backward(outputs, labels)
        optimizer.step()
    progress = 1.0
    with torch.no_grad():
        test = net(given.test_rows, weight, activation)
        fit = net(given.rows, weight, activation)
    return {
        "trial": list(range(trials)),
        "accuracy": accuracy(test, given.test_labels).tolist(),
        "fit": accuracy(fit, given.labels).tolist(),
    }
