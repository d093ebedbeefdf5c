"""Teacher-student training beyond one bit: ternary weights, activations of k bits.

The engine of :func:`ste_lightning.theory.simulate` knows signs and steps. This is the same
experiment with other grids, batched in torch, for the question whether the law of N50 is one of
binary networks alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ste_lightning import functional as SF
from ste_lightning.data import TeacherStudent
from ste_lightning.errors import require, unknown
from ste_lightning.models.streams import Stream, generator, normal
from ste_lightning.theory.batched_descent import descend

__all__ = ["train_low_bit"]

_TOP = 2.0  # pre-activations above it have the highest level
_THIRD = 0.43  # a third of standard normal numbers is smaller in size


def train_low_bit(
    *,
    n: int,
    m: int = 4,
    samples: int,
    trials: int = 64,
    steps: int = 2000,
    lr: float = 1.0,
    weights: str = "binary",
    bits: int = 1,
    rule: str | Mapping[str, Any] = "identity",
    threshold: float = 0.5,
    init_scale: float | None = None,
    seed: int = 0,
) -> dict[str, list[Any]]:
    r"""Train students whose weights are binary or ternary and whose activations have k bits.

    .. math:: y = v^T q(Z w), \quad q(a) = \tfrac1L \sum_{l=0}^{L-1} 1[a > 2l/L],
              \quad L = 2^k - 1

    with w = sign(x) / sqrt(n), or ternary: w = sign(x) 1[\|x\| > threshold] sqrt(3 / 2n), for
    teachers whose weights are -1, 0 and +1 with equal chance. The update is the coarse
    gradient's, x <- x - lr g, with f' for the activation and 1 for the weights. Data, binary
    teachers and starts are those of :func:`ste_lightning.theory.simulate`; with one bit and
    binary weights the runs are, too.

    Args:
        n: inputs.
        m: rows of a sample; v = ones / sqrt(m) for student and teacher.
        samples: N.
        trials: independent problems.
        steps: T.
        lr: step size.
        weights: ``binary`` or ``ternary``.
        bits: k of the activation, 1 to 8; 1 is the step.
        rule: the activation's backward rule: a name or ``{"rule": name, **parameters}``.
        threshold: |x| up to which a ternary weight is 0.
        init_scale: standard deviation of x_0; default 0.1, and for ternary weights such that a
            third of them begin as 0. (All at 0, rules with f'(0) = 0 would never begin.)
        seed: of everything random.

    Returns:
        Columns ``trial``, ``last`` (w_T = w*), ``ergodic`` (the rounded mean of the quantized
        iterates), ``distance`` (wrong weights at the end).
    """
    if weights not in ("binary", "ternary"):
        raise unknown("weights", weights, ("binary", "ternary"))
    require(1 <= bits <= 8, "bits", bits, "use 1 to 8")
    require(steps > 0, "steps", steps, "use a positive integer")
    require(threshold > 0, "threshold", threshold, "use a positive number")
    surrogate = SF.surrogate(rule)
    data = TeacherStudent(n, m, samples, trials, seed=seed)
    if init_scale is None:
        init_scale = 0.1 if weights == "binary" else threshold / _THIRD
    x = init_scale * normal(seed, Stream.WEIGHT, trials, n)
    if weights == "binary":
        teacher, scale, zero = data.teacher[0].sign(), n**-0.5, 0.0
    else:
        drawn = [
            generator(seed, Stream.TEACHER, t).choice([-1.0, 0.0, 1.0], n) for t in range(trials)
        ]
        teacher = torch.stack([torch.from_numpy(row).float() for row in drawn])
        scale, zero = (1.5 / n) ** 0.5, threshold
    v = torch.full((m,), m**-0.5)
    levels = 2**bits - 1

    def weight(latent: Tensor, step: int) -> Tensor:
        return SF.hard_sign(latent) * (latent.abs() > zero) if zero else SF.hard_sign(latent)

    def output(rows: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        a = torch.bmm(w[:, None], rows.transpose(1, 2)).mul_(scale).view(len(w), samples, m)
        # The number of thresholds below a, each a multiple of 2 / L.
        active = (a * (levels / _TOP)).ceil().clamp_(0, levels).div_(levels)
        return a, active @ v

    rows = data.inputs.view(trials, samples * m, n)
    x, total = descend(
        x, rows, output(rows, teacher)[1], v,
        weights=weight, output=output, derivative=surrogate.derivative, lr=lr, steps=steps,
    )  # fmt: skip
    mean = total / steps
    rounded = SF.hard_sign(mean) * (mean.abs() > 0.5) if zero else SF.hard_sign(mean)
    wrong = (weight(x, steps) != teacher).sum(1)
    return {
        "trial": list(range(trials)),
        "last": (wrong == 0).tolist(),
        "ergodic": (rounded == teacher).all(1).tolist(),
        "distance": wrong.tolist(),
    }
