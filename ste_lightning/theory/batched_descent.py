"""Coarse-gradient descent of many students at once, in torch: for maps the engine does not know."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["descend"]

_LOOK = 8  # steps between two looks for trials that have come to rest


def descend(
    x: Tensor,
    rows: Tensor,
    labels: Tensor,
    v: Tensor,
    *,
    weights: Callable[[Tensor, int], Tensor],
    output: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    derivative: Callable[[Tensor], Tensor],
    lr: float,
    steps: int,
    rests: Callable[[int], bool] = lambda step: True,
) -> tuple[Tensor, Tensor]:
    r"""Return x_T and the sum of the weights w_1 to w_T.

    .. math:: x_{t+1} = x_t - \eta\, g_t, \qquad
              g_t = \tfrac1N \sum_i (\hat y_i - y_i) \sum_j v_j f'(a_{ij}) z_{ij}

    Trials that have come to rest are no longer computed.

    Args:
        x: latent weights of the start, (trials, n); stays as it is.
        rows: (trials, N m, n).
        labels: (trials, N).
        v: second layer, (m,).
        weights: latent weights, number of steps done -> weights w.
        output: rows, w -> pre-activations a, (trials, N, m), and outputs, (trials, N).
        derivative: f'.
        lr: step size.
        steps: T.
        rests: step -> whether a gradient of exactly zero never moves anything again.
    """
    samples, m = labels.shape[1], len(v)
    x, total = x.clone(), torch.zeros_like(x)
    # Of the trials that still move: their numbers, latent weights, weights and sums of these.
    going, latent, w, tally = torch.arange(len(x)), x.clone(), weights(x, 0), total.clone()
    for step in range(steps):
        a, predicted = output(rows, w)
        weighed = derivative(a) * v * (predicted - labels)[..., None]
        g = torch.bmm(weighed.view(len(w), 1, samples * m), rows)[:, 0] / samples
        latent -= lr * g
        w = weights(latent, step + 1)
        tally += w
        if step % _LOOK and step < steps - 1:
            continue
        resting = ~g.any(1) & rests(step)
        if step == steps - 1 or 4 * int(resting.sum()) >= len(going):
            x[going], total[going] = latent, tally + (steps - 1 - step) * w
            going, rows, labels = going[~resting], rows[~resting], labels[~resting]
            latent, w, tally = latent[~resting], w[~resting], tally[~resting]
            if len(going) == 0:
                break
    return x, total
