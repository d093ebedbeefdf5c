"""BinaryConnect, ProxConnect and ASkewSGD in the two-layer setting: who flips, and who rests where.

**Bands.** ASkewSGD trains the weights x themselves and only asks that they end up in the bands
| |x| - 1 | <= eps, with eps falling. A weight outside its band must return: its velocity away from
the band is replaced by alpha times its distance to it. So a weight can change sign only by one step
longer than 1 - eps: once the step size times the gradient is below that, flips vanish, whatever the
label noise.

**Fixed points.** ProxConnect keeps BinaryConnect's latent x, but takes gradients at a proximal map
w = P(x) of it, here clip(rho x, -1, 1), whose slope rho may grow. It rests where the gradient at w
is 0. If w is binary there, that is the straight-through estimator's own condition; while rho is
finite, w may rest in between, and rounding may leave a point that is none.

Source: Leconte et al., arXiv 2211.03741; Dockhorn et al., arXiv 2110.13220. The arguments are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ste_lightning import functional as SF
from ste_lightning.data import TeacherStudent
from ste_lightning.errors import require, unknown
from ste_lightning.models.streams import Stream, normal

__all__ = ["METHODS", "train_in_bands"]

_RETURN = 0.2  # share of the distance to its band that a weight returns in a step
_NARROW = 0.1  # width of the bands from the middle of training on
_STEEP = 1000.0  # slope of ProxConnect's map from the middle of training on

METHODS: Mapping[str, Callable[[float], float]] = {
    "straight_through": lambda progress: float("inf"),
    "proxconnect": lambda progress: _STEEP ** min(1.0, 2 * progress),
    "proxconnect_fixed": lambda progress: 1.0,
    "askew": lambda progress: 1.0,
}
"""Method -> the slope of its map over training's progress."""


def train_in_bands(
    *,
    n: int,
    m: int = 1,
    samples: int,
    trials: int = 64,
    steps: int = 2000,
    lr: float = 0.05,
    method: str = "askew",
    noise: float = 0.0,
    init_scale: float = 0.1,
    seed: int = 0,
) -> dict[str, list[Any]]:
    """Train students of binary teachers by one of :data:`METHODS`.

    Args:
        n: inputs.
        m: rows of a sample; v = ones / sqrt(m) for student and teacher.
        samples: N.
        trials: independent problems.
        steps: T.
        lr: step size.
        method: ``straight_through`` (BinaryConnect), ``proxconnect`` (slope 1 to 1000 over the
            first half), ``proxconnect_fixed`` (slope 1) or ``askew`` (bands of width 1, which
            hold nobody, and from the first quarter to the second down to 0.1).
        noise: standard deviation of the label noise.
        init_scale: standard deviation of x_0; levels are -1 and 1.
        seed: of everything random.

    Returns:
        Columns ``trial``; ``last``: whether the signs at the end are the teacher's; ``flips``: of a
        weight, per 1000 steps of the second half; ``rests``: whether the gradient at the end is
        exactly 0; ``rounded_rests``: whether it is at the signs of the end.
    """
    if method not in METHODS:
        raise unknown("method", method, METHODS)
    require(steps > 1, "steps", steps, "use two or more")
    require(lr > 0, "lr", lr, "use a positive number")
    data = TeacherStudent(n, m, samples, trials, seed=seed, noise=noise)
    inputs, teacher = data.inputs, data.teacher[0].sign()
    rows, v = inputs.view(trials, samples * m, n), torch.full((m,), m**-0.5)

    def output(w: Tensor) -> Tensor:
        return (torch.bmm(rows, w[:, :, None]) > 0).float().view(trials, samples, m) @ v

    # Labels and student come from the same product, so that zero is exactly zero.
    y = output(teacher) + data.label_noise

    def gradient(w: Tensor) -> Tensor:
        weighed = (output(w) - y)[..., None] * v
        return torch.bmm(weighed.view(trials, 1, samples * m), rows)[:, 0] / samples

    x = init_scale * normal(seed, Stream.WEIGHT, trials, n)
    half, flips = steps // 2, torch.zeros(trials)

    def weights(step: int) -> Tensor:
        slope = METHODS[method](step / steps)
        if method == "askew":
            return x
        return SF.hard_sign(x) if slope == float("inf") else (slope * x).clamp(-1, 1)

    for step in range(steps):
        before = x >= 0
        move = -lr * gradient(weights(step))
        if method == "askew":
            narrowed = min(1.0, max(0.0, 4 * step / steps - 1))
            move = _towards_band(x, move, 1 - (1 - _NARROW) * narrowed)
        x = x + move
        if step >= half:
            flips += ((x >= 0) != before).sum(1)
    sign = SF.hard_sign(x)
    return {
        "trial": list(range(trials)),
        "last": (sign == teacher).all(1).tolist(),
        "flips": (1000 * flips / (n * (steps - half))).tolist(),
        "rests": (gradient(weights(steps)) == 0).all(1).tolist(),
        "rounded_rests": (gradient(sign) == 0).all(1).tolist(),
    }


def _towards_band(x: Tensor, move: Tensor, width: float) -> Tensor:
    """Return ``move`` where it is allowed: weights outside their band return to it."""
    outwards = SF.hard_sign(x)
    beyond = x.abs() - 1
    along = move * outwards
    inside = torch.where(beyond < -width, along.clamp(min=_RETURN * (-width - beyond)), along)
    kept = torch.where(beyond > width, inside.clamp(max=-_RETURN * (beyond - width)), inside)
    return kept * outwards
