"""How often label noise drives a trial away from its teacher, predicted from the data alone.

With fixed noisy labels the coarse gradient at w* is a constant vector g. A coordinate with
g_i sign(w*_i) > 0 walks at the speed eta a_i, a_i = |g_i|, towards zero and flips; flipped, it
is driven back by D - a_i, D the restoring drift. So x_i sign(w*_i) / (eta D) rotates by
p_i = a_i / D per step on a circle of length 1, and is on the wrong side a fraction p_i of the
time. If the coordinates rotate independently,

    fraction of steps at w*   f = prod_i (1 - p_i)
    escapes per step          e = prod_i (1 - p_i) - prod_i (1 - 2 p_i)
    mean return time          (1 - f) / e

whatever the learning rate. It holds for N >> n and p_i < 1/2, where coordinates hardly couple.
The walk is our own argument for the recurrence that arXiv 2505.18113 v2 proves.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from ste_lightning import functional as SF
from ste_lightning.errors import require
from ste_lightning.models.coarse_gradient import evaluate

__all__ = ["RecurrencePrediction", "predict_recurrence", "restoring_drift", "teacher_gradient"]


@dataclasses.dataclass(frozen=True)
class RecurrencePrediction:
    """Predicted recurrence statistics of each trial, in float64.

    Attributes:
        fraction: share of the steps spent at w*, shape (trials,).
        escape_rate: escapes per step, shape (trials,).
        return_time: mean steps away per escape, shape (trials,); NaN where no escape is due.
        rotation: p_i, share of the steps coordinate i is wrong, shape (trials, n).
    """

    fraction: Tensor
    escape_rate: Tensor
    return_time: Tensor
    rotation: Tensor


def restoring_drift(n: int, v: Tensor, rule: str | SF.Surrogate = "relu") -> Tensor:
    r"""Return D, how fast one wrong coordinate is driven back by Gaussian data, per unit of eta.

    With one of n signs wrong, :math:`\cos\theta = 1 - 2/n`, and A standard normal,

    .. math:: D = \frac{\|v\|^2}{\sqrt n} E\Big[A f'(A) 1[A > 0] - A f'(A) \Phi(A \cot\theta)
              + \frac{1 + \cos\theta}{\sin\theta} f'(A) \phi(A \cot\theta)\Big],

    which is :math:`2 \|v\|^2 / \sqrt{2 \pi n}` for the identity and half of it for ReLU.

    Args:
        n: inputs of the first layer, at least 2.
        v: second layer of student and teacher, shape (trials, m).
        rule: the step's backward rule.

    Returns:
        D, float64, shape (trials,).

    Source: the expected coarse gradient, Yin et al. 2019, arXiv 1903.05662, for general f'.
    """
    require(n > 1, "n", n, "use at least 2 inputs")
    cos = 1 - 2 / n
    sin = math.sqrt(1 - cos * cos)
    # Midpoints: symmetric about 0 without touching it, so jumps of f' there cost nothing.
    step = 16 / 2**16
    a = torch.arange(-8 + step / 2, 8, step, dtype=torch.float64)
    derivative = SF.surrogate(rule).derivative(a)
    b = a * (cos / sin)
    density = torch.exp(-0.5 * b.square()) / math.sqrt(2 * math.pi)
    inner = a * ((a > 0).double() - torch.special.ndtr(b)) + (1 + cos) / sin * density
    weight = torch.exp(-0.5 * a.square()) * (step / math.sqrt(2 * math.pi))
    drift = float((derivative * inner * weight).sum()) / math.sqrt(n)
    return v.double().square().sum(-1) * drift


def teacher_gradient(
    Z: Tensor, y: Tensor, teacher: Tensor, v: Tensor, rule: str | SF.Surrogate = "relu"
) -> Tensor:
    """Return the coarse gradient at the teacher, (trials, n): constant, and zero without noise.

    Args:
        Z: inputs, shape (trials, N, m, n).
        y: noisy labels, shape (trials, N).
        teacher: w*, of which the signs count, shape (trials, n).
        v: second layer, shape (trials, m).
        rule: the step's backward rule.
    """
    return evaluate(Z, y, SF.hard_sign(teacher), v, SF.surrogate(rule))[1]


def predict_recurrence(
    gradient: Tensor, teacher: Tensor, v: Tensor, rule: str | SF.Surrogate = "relu"
) -> RecurrencePrediction:
    """Predict how often each trial is at its teacher.

    Args:
        gradient: coarse gradient at the teacher, shape (trials, n): from
            :func:`teacher_gradient`, or ``simulate(...).teacher_gradient``.
        teacher: w*, of which the signs count, shape (trials, n).
        v: second layer of student and teacher, shape (trials, m).
        rule: the step's backward rule, the same as of ``gradient``.

    Raises:
        ConfigurationError: if ``gradient`` and ``teacher`` differ in shape.
    """
    require(
        gradient.shape == teacher.shape,
        "gradient.shape",
        tuple(gradient.shape),
        f"it must be the teacher's, {tuple(teacher.shape)}",
    )
    adverse = (gradient * SF.hard_sign(teacher)).double().clamp(min=0)
    drift = restoring_drift(teacher.shape[-1], v, rule)
    rotation = (adverse / drift.unsqueeze(-1)).clamp(max=1)
    fraction = (1 - rotation).prod(-1)
    escape_rate = fraction - (1 - 2 * rotation).clamp(min=0).prod(-1)
    return RecurrencePrediction(fraction, escape_rate, (1 - fraction) / escape_rate, rotation)
