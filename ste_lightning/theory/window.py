r"""Which window is best: signal and noise of one coarse gradient, in closed form.

The rule is f' = 1 where |a| <= width. At the angle theta from w*, with v = v* of length 1 and
concentration q = sum_j v_j^4, the expected gradient drives a wrong sign back by pull / sqrt(n),
and N samples add the noise sigma / sqrt(N) to every coordinate,

    sigma^2 = q P(|a| <= width, d != 0) + (1 - q) P(|a| <= width) theta / pi,

d = step(a) - step(a*). The first term is a unit's own residual, which sits at small |a|, where the
signal is; the second one is the residual of the other units, which says nothing about this one
and grows with the window. With T Owen's function and c = cot(theta),

    P(|a| <= width, d != 0) = Phi(width) - 1/2 - arctan(c) / pi + 2 T(width, c).

So the samples that a step needs for the same signal grow as sigma^2 / pull^2, and the best window
is where that is smallest. One unit has none: any window that holds the signal is as good.
For small theta the best is a multiple of theta that depends on q (and on log theta) alone.

Source: our derivation, from the moments of Yin et al. 2019, arXiv 1903.05662.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.special import ndtr, owens_t

from ste_lightning.errors import require
from ste_lightning.functional.rules import Clipped
from ste_lightning.theory.moments import moments

__all__ = ["best_window", "check_window", "noise", "signal"]

_WIDEST = 40.0  # nothing is beyond it


def check_window(width: float, theta: float, concentration: float = 1.0) -> None:
    """Refuse what is no window, no angle or no concentration."""
    require(width > 0, "width", width, "use a positive number")
    require(0 < theta < math.pi, "theta", theta, "use an angle between 0 and pi")
    require(0 < concentration <= 1, "concentration", concentration, "use a number in (0, 1]")


def signal(width: float, theta: float) -> tuple[float, float]:
    """Return ``pull`` and ``drift``: how fast wrong signs return and right ones leave.

    Both times sqrt(n), per unit of the step size; as :func:`.descent.can_descend` has them.

    Args:
        width: of the window; infinity is the identity.
        theta: angle between w and w*.
    """
    check_window(width, theta)
    at = torch.tensor([theta], dtype=torch.float64)
    m = moments(Clipped(min(width, _WIDEST)), at, torch.ones_like(at))
    radial, cross, half = float(m.positive - m.teacher), float(m.cross), math.tan(theta / 2)
    return radial + cross / half, radial - cross * half


def noise(width: float, theta: float, concentration: float) -> float:
    """Return sigma^2, the variance of a coordinate of the coarse gradient, times N.

    Args:
        width: of the window; infinity is the identity.
        theta: angle between w and w*.
        concentration: q, from 1/m (equal units) to 1 (one unit).
    """
    check_window(width, theta, concentration)
    width, cot = min(width, _WIDEST), 1 / math.tan(theta)
    inside = float(ndtr(width)) - 0.5
    own = inside - math.atan(cot) / math.pi + 2 * float(owens_t(width, cot))
    return concentration * own + (1 - concentration) * 2 * inside * theta / math.pi


def best_window(theta: float, concentration: float) -> float:
    """Return the width with the largest pull^2 / sigma^2; infinity for one unit.

    Args:
        theta: angle between w and w*.
        concentration: q, from 1/m (equal units) to 1 (one unit).
    """
    check_window(1.0, theta, concentration)
    if concentration == 1:
        return math.inf
    widths = np.geomspace(0.05 * min(theta, 1.0), 10.0, 400)
    ratios = [signal(w, theta)[0] ** 2 / noise(w, theta, concentration) for w in widths]
    return float(widths[int(np.argmax(ratios))])
