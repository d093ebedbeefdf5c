"""PARQ's proximal descent in the two-layer setting: a ramp that hardens in place of the sign."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ste_lightning import functional as SF
from ste_lightning.data import TeacherStudent
from ste_lightning.errors import require, unknown
from ste_lightning.functional.schedules import mirror_sigmoid
from ste_lightning.models.streams import Stream, normal
from ste_lightning.theory.batched_descent import descend

__all__ = ["RAMPS", "train_proximal"]

RAMPS: Mapping[str, Callable[[float], float]] = {
    "hard": lambda progress: 0.0,
    "clip": lambda progress: 1.0,
    "parq": mirror_sigmoid,
}
"""The ramp's width rho over training's progress."""


def train_proximal(
    *,
    n: int,
    m: int = 1,
    samples: int,
    trials: int = 64,
    steps: int = 2000,
    lr: float = 0.01,
    ramp: str = "parq",
    rule: str | Mapping[str, Any] = "identity",
    init_scale: float = 0.01,
    seed: int = 0,
) -> dict[str, list[Any]]:
    r"""Train students of binary teachers by proximal descent whose ramp grows into the sign.

    .. math:: x_{t+1} = x_t - \eta\, g(w_t), \qquad
              w_t = \mathrm{clip}(x_t / \rho_t, -1/\sqrt n, 1/\sqrt n)

    with the coarse gradient g of :func:`ste_lightning.theory.simulate` and its data, teachers
    and starts. The map is the proximal map of the convex piecewise-affine penalty
    :math:`\gamma (|w| - 1/\sqrt n)_+`, whose weight gamma, the sum of the step sizes, has grown
    past the latent weights: w = clip(x), slope 1 (``clip``). PARQ then lets the slope
    :math:`1/\rho` grow from 1 to infinity, where the map is the sign and the method the
    straight-through estimator (``hard`` from the first step on). y = step(Z w) does not see the
    length of w, so only the ratio of the ramp's width to the step size matters.

    Args:
        n: inputs.
        m: rows of a sample; v = ones / sqrt(m) for student and teacher.
        samples: N.
        trials: independent problems.
        steps: T.
        lr: step size. A wrong sign moves by 0.8 lr / sqrt(n) a step, so 1 / lr steps cross the
            ramp; 1 leaves no ramp to speak of.
        ramp: how rho falls: ``hard`` (0), ``clip`` (1 throughout, rounded after the last step) or
            ``parq`` (PARQ's sigmoid, 1 to 0).
        rule: the step's backward rule: a name or ``{"rule": name, **parameters}``.
        init_scale: standard deviation of x_0.
        seed: of everything random.

    Returns:
        Columns ``trial``, ``last`` (sign of x_T), ``ergodic`` (sign of the mean of w_1 to w_T),
        ``distance`` (wrong signs at the end).

    Source: Jin et al. 2025, arXiv 2503.15748 (PARQ), sections 3 and 4; the penalty's growing
    weight is their AProx.
    """
    if ramp not in RAMPS:
        raise unknown("ramp", ramp, RAMPS)
    require(steps > 0, "steps", steps, "use a positive integer")
    require(lr > 0, "lr", lr, "use a positive number")
    surrogate = SF.surrogate(rule)
    data = TeacherStudent(n, m, samples, trials, seed=seed)
    rows, teacher = data.inputs.view(trials, samples * m, n), data.teacher[0].sign()
    v, bound = torch.full((m,), m**-0.5), n**-0.5

    def weights(latent: Tensor, step: int) -> Tensor:
        return SF.soft_sign(latent, RAMPS[ramp](step / steps), bound)

    def output(rows: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        a = torch.bmm(w[:, None], rows.transpose(1, 2)).view(len(w), samples, m)
        return a, (a > 0).float() @ v

    # Labels and student come from the same product, so that zero is exactly zero.
    y = output(rows, bound * teacher)[1]
    x, total = descend(
        init_scale * normal(seed, Stream.WEIGHT, trials, n), rows, y, v,
        weights=weights, output=output, derivative=surrogate.derivative, lr=lr, steps=steps,
        rests=lambda step: RAMPS[ramp](step / steps) == 0,  # while it softens, weights still move
    )  # fmt: skip
    wrong = (SF.hard_sign(x) != teacher).sum(1)
    return {
        "trial": list(range(trials)),
        "last": (wrong == 0).tolist(),
        "ergodic": (SF.hard_sign(total) == teacher).all(1).tolist(),
        "distance": wrong.tolist(),
    }
