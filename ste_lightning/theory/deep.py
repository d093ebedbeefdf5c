"""One hidden layer more: two binary layers below the output, both planted and both trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ste_lightning import functional as SF
from ste_lightning.data import TeacherStudent
from ste_lightning.errors import require
from ste_lightning.models.streams import Stream, generator, normal

__all__ = ["train_deep"]


def train_deep(
    *,
    n: int,
    m: int = 5,
    samples: int,
    trials: int = 64,
    steps: int = 1000,
    lr: float = 1.0,
    rule: str | Mapping[str, Any] = "clipped",
    train_u: bool = True,
    init_scale: float = 0.1,
    seed: int = 0,
) -> dict[str, list[Any]]:
    r"""Train students with two layers of binary weights on planted teachers of the same form.

    .. math:: y = \mathrm{step}(u^T \mathrm{sign}(Z w)), \qquad
              w \in \{\pm 1/\sqrt n\}^n,\ u \in \{\pm 1/\sqrt m\}^m

    w is shared by the m rows of Z, as a convolution's filter is: the network of
    :func:`ste_lightning.theory.simulate` with a second binary layer in place of the fixed v.
    Hidden units are not exchangeable, so the only other solution is (-w*, -u*), the same
    function, which counts as recovery. One step with r = y - y*, f' the rule:

    .. math:: u: \tfrac1N \sum_i \mathrm{sign}(Z_i w)\, r_i, \qquad
              w: \tfrac1N \sum_i Z_i^T (f'(Z_i w) \circ u)\, r_i

    The output's step passes every gradient (identity), and so do the weights' signs.

    For normal inputs and theta the angle between w and w*, in expectation

    .. math:: E[\Delta u] \propto -\big(u - (1 - \tfrac{2 \theta}{\pi}) u^*\big), \qquad
              E[\Delta w] \propto -\big(w - (u^T u^*) w^*\big) \text{ if } f' = 1,

    so for the identity each layer's wrong signs drive the other layer's right ones away, as
    strongly at a small angle as at a large one: with many samples both layers end in flipping
    together for ever. A window on Zw passes little of the first term, w, and trains.

    Args:
        n: inputs of the first layer.
        m: inputs of the second; odd, so that it never sees a tie.
        samples: N.
        trials: independent problems.
        steps: T.
        lr: step size of both layers.
        rule: backward rule f' of the hidden sign: a name or ``{"rule": name, **parameters}``.
        train_u: whether to train u; otherwise it is the teacher's from the start.
        init_scale: standard deviation of both layers' latent weights at the start.
        seed: of everything random.

    Returns:
        Columns ``trial``, ``last`` and ``ergodic`` (both layers recovered, by the last iterate
        and by the rounded mean of all), ``distance`` (wrong weights of both layers, to the
        nearer solution), ``cycle`` (all signs are those of two steps ago, and not of the last).
    """
    require(m > 0 and m % 2 == 1, "m", m, "use an odd number")
    require(steps > 0, "steps", steps, "use a positive integer")
    require(lr > 0, "lr", lr, "use a positive number")
    require(init_scale > 0, "init_scale", init_scale, "use a positive number")
    surrogate = SF.surrogate(rule)
    # Both layers' weights side by side: n of the first, then m of the second.
    drawn = [
        generator(seed, Stream.TEACHER, t).choice([-1.0, 1.0], n + m).astype("float32")
        for t in range(trials)
    ]
    rows = TeacherStudent(n, m, samples, trials, seed=seed).inputs.view(trials, samples * m, n)
    teacher = torch.stack([torch.from_numpy(row) for row in drawn])
    x = init_scale * normal(seed, Stream.WEIGHT, trials, n + m)
    if not train_u:
        x[:, n:] = init_scale * teacher[:, n:]
    scale = torch.cat([torch.full((n,), n**-0.5), torch.full((m,), m**-0.5)])

    def forward(rows: Tensor, signs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        w, u = (signs * scale)[:, :n], (signs * scale)[:, n:]
        a = torch.bmm(rows, w[:, :, None]).view(len(w), samples, m)
        hidden = SF.hard_sign(a)
        return a, hidden, (torch.bmm(hidden, u[:, :, None])[..., 0] > 0).float()

    y = forward(rows, teacher)[2]
    total = torch.zeros(trials, n + m)
    going = torch.arange(trials)
    before, last = (torch.zeros(trials, n + m) for _ in range(2))  # signs at T - 2 and T - 1
    for step in range(steps):
        signs = SF.hard_sign(x[going])
        a, hidden, predicted = forward(rows, signs)
        residual = (predicted - y)[:, None]
        back = surrogate.derivative(a) * (signs * scale)[:, None, n:] * residual.mT
        g_w = torch.bmm(back.view(len(signs), 1, -1), rows)[:, 0] / samples
        g_u = torch.bmm(residual, hidden)[:, 0] / samples
        before[going], last[going] = last[going], signs
        x[going] -= lr * torch.cat([g_w, g_u if train_u else torch.zeros_like(g_u)], 1)
        total[going] += SF.hard_sign(x[going])
        solved = ~residual.any(2)[:, 0]
        if 4 * int(solved.sum()) >= len(going):
            # Without a residual nothing moves any more.
            total[going[solved]] += (steps - 1 - step) * signs[solved]
            going, rows, y = going[~solved], rows[~solved], y[~solved]
            if len(going) == 0:
                break

    now = SF.hard_sign(x)

    def distance(weights: Tensor) -> Tensor:
        wrong = (SF.hard_sign(weights) != teacher).sum(1)
        return torch.minimum(wrong, n + m - wrong)

    return {
        "trial": list(range(trials)),
        "last": (distance(x) == 0).tolist(),
        "ergodic": (distance(total) == 0).tolist(),
        "distance": distance(x).tolist(),
        "cycle": ((now == before).all(1) & (now != last).any(1)).tolist(),
    }
