"""Does label noise leave the teacher a place to stay?"""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from ste_lightning import functional as SF
from ste_lightning.errors import require
from ste_lightning.theory.moments import expectation, moments

__all__ = ["Stability", "local_stability"]


@dataclasses.dataclass(frozen=True)
class Stability:
    """Signal and noise at w*, per coordinate and unit of the step size.

    Attributes:
        signal: D, the expected drift that drives one wrong sign back.
        spread: s, standard deviation over data sets of the coarse gradient's coordinates at w*.
        share: E[p], expected share of time a coordinate is wrong, s / (D sqrt(2 pi)).
        overturned: P(p > 1/2) = Phi(-D / 2s), probability that noise outweighs signal and the
            averaged iterate has this coordinate wrong.
        fraction: expected share of time at w*, E[1 - p]^n, as if the coordinates of the gradient
            were independent; for the identity they are, at large N, for other rules their
            correlations are of order 1/n.
    """

    signal: float
    spread: float
    share: float
    overturned: float
    fraction: float


def local_stability(
    n: int, samples: int, noise: float, v: Tensor, rule: str | SF.Surrogate = "relu"
) -> Stability:
    r"""Return how signal compares with noise at the teacher, for Gaussian data.

    With :math:`g_i(w^*) = -\frac1N \sum_k \epsilon_k \sum_j v_j f'(A_{kj}) Z_{kji}`,

    .. math:: s^2 = \frac{\sigma^2}{N} \Big[\|v\|^2 \big(E[f'^2](1 - \tfrac1n)
              + \tfrac1n E[f'^2 A^2]\big) + \tfrac1n ((1^T v)^2 - \|v\|^2) E[f' A]^2\Big]

    and p = max(g_i sign(w*_i), 0) / D, g_i normal. Without noise w* is absorbing: every
    residual, hence the gradient of any batch, is exactly zero.

    Args:
        n: inputs of the first layer, at least 2.
        samples: N.
        noise: standard deviation sigma of the label noise.
        v: second layer of student and teacher, (m,).
        rule: the step's backward rule.

    Source: our derivation; :mod:`ste_lightning.theory.prediction` has the same for a given
    data set.
    """
    require(n > 1, "n", n, "use at least 2 inputs")
    require(samples > 0, "samples", samples, "use a positive integer")
    require(noise >= 0, "noise", noise, "use a standard deviation >= 0")
    surrogate = SF.surrogate(rule)
    v = v.double()
    own, total = float(v.square().sum()), float(v.sum())

    theta = torch.tensor([math.acos(1 - 2 / n)], dtype=torch.float64)
    m = moments(surrogate, theta, torch.ones_like(theta))
    pull = float(m.positive - m.teacher + m.cross / (theta / 2).tan())
    signal = own * pull / math.sqrt(n)

    def squares(a: Tensor) -> Tensor:
        d = surrogate.derivative(a)
        return torch.stack([d * d, d * d * a * a, d * a])

    flat, curved, tilt = expectation(squares).tolist()
    variance = own * (flat * (1 - 1 / n) + curved / n) + (total**2 - own) * tilt**2 / n
    spread = noise * math.sqrt(variance / samples)
    if spread == 0:
        return Stability(signal, 0.0, 0.0, 0.0, 1.0)
    share = min(1.0, spread / (signal * math.sqrt(2 * math.pi))) if signal > 0 else 1.0
    overturned = 0.5 * math.erfc(signal / (2 * spread) / math.sqrt(2))
    return Stability(signal, spread, share, overturned, (1 - share) ** n)
