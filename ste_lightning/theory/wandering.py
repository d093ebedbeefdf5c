r"""Why the last iterate needs so many samples: it wanders, and how far follows from theory alone.

Noise-free training on N samples either hits w* and rests there, or wanders: a share kappa of the
signs is wrong at any time, never the same ones for long. The rule is a window, f' = 1 where
|a| <= width; v = v*, of length 1, with concentration q = sum_j v_j^4 (1/m for equal units).

*Signal.* At the angle theta, cos(theta) = 1 - 2 kappa, the expected gradient drives a wrong sign
back by pull / sqrt(n) and a right one away by drift / sqrt(n) (:mod:`.descent`; drift <= 0).

*Noise.* Along an input at right angles to w and w*, one sample's gradient is
sum_j v_j f'(a_j) z_j r with r = sum_l v_l d_l, d = step(a) - step(a*) in {-1, 0, 1}, and z_j
independent of all of it. So two students w, w' in the same state, at the angle theta' from each
other, have noises that agree by

    Q(theta, theta') = q E[F F' d d'] + (1 - q) E[F F'] E[d d'],   F = f'(a), F' = f'(a'),
    E[d d'] = (2 theta - theta') / 2 pi,

over N; theta' = 0 gives the variance of one gradient, and what is left at the typical theta' is
*quenched*: the same in every visit. The rest averages out over the steps.

*Balance.* A weight that returns for ever has no drift in the mean. So coordinate i is wrong a share
p_i = max(0, (x_i + drift) / (pull + drift)) of the time, x_i normal with variance Q n / N, and

    kappa = E p,   cos(theta') = 1 - 4 (kappa - E p^2)

close the equations. Nothing is fitted. For the identity Q = (2 theta - theta') / 2 pi and
pull = sqrt(2 / pi), hence kappa ~ (n / N)^(2/3) where N >> n.

*Rest.* All signs are right at once in a share f = exp(n E log(1 - p)) of the steps, and the first
such step is the last: half of the runs have rested after T steps if T f = log 2. With
kappa ~ (n/N)^(2/3) and kappa n ~ log T, N50 ~ n^(5/2) / (log T)^(3/2).

Source: our own argument, for N >> n; arXiv 2505.18113 bounds the last iterate by n^4.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import ndtr

from ste_lightning.errors import require
from ste_lightning.theory.window import check_window, signal

__all__ = ["Wandering", "quenched_noise", "samples_to_rest", "wandering"]

Array = NDArray[np.float64]
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(64)
_FAR = 9.0  # standard deviations that count


def _integral(density: Array, x: Array) -> float:
    return float((density * x).sum())


def _points(edges: list[float]) -> tuple[Array, Array]:
    """Return Gauss-Legendre points and weights on the panels between ascending edges."""
    low, high = np.array(edges[:-1])[:, None], np.array(edges[1:])[:, None]
    return (
        (low + (high - low) * (_NODES + 1) / 2).ravel(),
        ((high - low) / 2 * _WEIGHTS).ravel(),
    )


def quenched_noise(width: float, theta: float, apart: float, concentration: float) -> float:
    r"""Return Q, the covariance of two students' gradient noises, times N.

    With :math:`u = (a + a') / \sqrt 2` and :math:`(a - a') / \sqrt 2` independent, both
    expectations are integrals over u alone.

    Args:
        width: of the window; infinity is the identity.
        theta: angle of either student from w*.
        apart: angle theta' between them; 0 gives the variance of one gradient.
        concentration: q, from 1/m (equal units) to 1 (one unit).
    """
    check_window(width, theta, concentration)
    require(0 <= apart <= 2 * theta, "apart", apart, "use an angle from 0 to 2 theta")
    both, half = math.sqrt(2) * math.cos(apart / 2), math.sqrt(2) * math.sin(max(apart, 1e-9) / 2)
    slope = math.cos(theta) / (both * both)  # of a* on a + a'
    rest = math.sqrt(max(1 - 2 * slope * math.cos(theta), 1e-18))
    end = min(math.sqrt(2) * width, _FAR * both)
    # Panels where the factors bend: near 0 by theta, at the window's corner by theta'.
    corners = [rest, 4 * rest, math.sqrt(2) * width / 2]
    corners += [math.sqrt(2) * width - k * half for k in (1, 4, 9)]
    u, weight = _points([0.0, *sorted({c for c in corners if 0 < c < end}), end])
    density = np.exp(-0.5 * (u / both) ** 2) * weight / (both * math.sqrt(2 * math.pi))
    edge = np.maximum(math.sqrt(2) * width - u, 0) / half
    inside = 2 * ndtr(edge) - 1
    alike = 2 * ndtr(np.minimum(u / half, edge)) - 1
    wrong = ndtr(-slope * math.sqrt(2) * u / rest)
    own, windows = 2 * _integral(density, wrong * alike), 2 * _integral(density, inside)
    shared = (2 * theta - apart) / (2 * math.pi)
    return concentration * own + (1 - concentration) * windows * shared


@dataclasses.dataclass(frozen=True)
class Wandering:
    """The wandering state of a run that has not hit the teacher.

    Attributes:
        wrong: kappa, share of the signs that are wrong.
        squares: E p^2, over coordinates, of the share of time that one is wrong.
        rest: -E log(1 - p): all of n signs are right in a share exp(-n rest) of the steps.
    """

    wrong: float
    squares: float
    rest: float


def wandering(
    samples_per_input: float, *, width: float = math.inf, concentration: float = 1.0
) -> Wandering:
    """Return the state in which runs wander, by iteration of the balance above.

    Args:
        samples_per_input: N / n.
        width: of the backward rule's window; default infinity, the identity.
        concentration: q, from 1/m (equal units) to 1, the default: one unit.
    """
    ratio = samples_per_input
    require(ratio > 0, "samples_per_input", ratio, "use a positive number")
    z, weight = _points(np.linspace(-_FAR, _FAR, 13).tolist())
    weight = weight * np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
    wrong, squares = 0.2, 0.1
    for _ in range(500):
        theta = math.acos(1 - 2 * wrong)
        apart = math.acos(1 - 4 * min(max(wrong - squares, 1e-3 * wrong), 0.25))
        pull, drift = signal(width, theta)
        spread = math.sqrt(quenched_noise(width, theta, min(apart, 2 * theta), concentration))
        p = ((z * spread / math.sqrt(ratio) + drift) / (pull + drift)).clip(0, 0.999)
        new, square = _integral(weight, p), _integral(weight, p * p)
        moved = abs(new - wrong)
        wrong, squares = (wrong + min(new, 0.45)) / 2, (squares + square) / 2
        if moved < 1e-7 * wrong:
            break
    return Wandering(wrong, squares, -_integral(weight, np.log1p(-p)))


def samples_to_rest(
    n: int, *, steps: int = 2000, width: float = math.inf, concentration: float = 1.0
) -> float:
    """Return N50 of the last iterate: the samples with which half of the runs rest at w*.

    Args:
        n: inputs.
        steps: T.
        width: as of :func:`wandering`.
        concentration: likewise.
    """
    require(n > 1, "n", n, "use at least 2 inputs")
    require(steps > 1, "steps", steps, "use at least 2 steps")
    goal = math.log(steps / math.log(2))

    def excess(log_ratio: float) -> float:
        state = wandering(math.exp(log_ratio), width=width, concentration=concentration)
        return n * state.rest - goal

    low, high = -1.0, 12.0
    require(excess(low) > 0, "n", n, "use more inputs: so few hardly wander")
    return float(n * math.exp(brentq(excess, low, high, xtol=1e-4)))
