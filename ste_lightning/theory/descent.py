"""Which backward rules lead to the teacher on average, and why the others cannot."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from ste_lightning import functional as SF
from ste_lightning.theory.moments import moments

__all__ = ["Descent", "can_descend"]


@dataclasses.dataclass(frozen=True)
class Descent:
    """Whether the expected coarse gradient of a rule descends, at v = v* of unit length.

    Attributes:
        possible: it points from w towards w* wherever it is not zero, and not zero everywhere.
        reason: one sentence, for people.
        angles: theta where it was computed, (K,).
        pull: how fast a wrong sign moves to the right one, times sqrt(n) / eta, at each angle:
            the descent cone's <E g, w - w*> is this times 2 h / n for h wrong signs.
        drift: how fast a right sign moves to the wrong one, likewise; it is not part of the
            cone, and most rules have drift <= 0: right signs are kept.
    """

    possible: bool
    reason: str
    angles: Tensor
    pull: Tensor
    drift: Tensor

    def __bool__(self) -> bool:
        """Return :attr:`possible`."""
        return self.possible


def can_descend(rule: str | SF.Surrogate, angles: int = 64) -> Descent:
    r"""Return whether the straight-through estimator with this rule can descend, and why.

    For binary w at the angle theta from w*, v = v* and unit length, the expected coarse
    gradient moves every wrong sign by :math:`m_+ - m_t + m_\times (1+\cos\theta)/\sin\theta`
    towards the teacher and every right sign by :math:`m_+ - m_t - m_\times
    (1-\cos\theta)/\sin\theta` away from it (moments of :mod:`ste_lightning.theory.moments`).
    Only the even part of f' counts, so an odd rule stands still everywhere.

    Args:
        rule: the step's backward rule.
        angles: how many angles to check, evenly over (0, pi]; default 64.

    Source: our derivation from the expected coarse gradient (Yin et al. 2019, arXiv
    1903.05662, for ReLU).
    """
    surrogate = SF.surrogate(rule)
    theta = torch.arange(1, angles + 1, dtype=torch.float64) * (math.pi / angles)
    m = moments(surrogate, theta, torch.ones_like(theta))
    radial = m.positive - m.teacher
    pull = radial + m.cross / (theta / 2).tan()
    drift = radial - m.cross * (theta / 2).tan()
    drift[-1] = 0.0  # at theta = pi no sign is right
    scale = float(m.positive.abs().max() + m.cross.abs().max())
    weakest, strongest = float(pull.min()), float(pull.max())
    if weakest > 1e-9 * scale:
        reason = f"the expected coarse gradient descends at every angle (pull >= {weakest:.3g})"
        return Descent(True, reason, theta, pull, drift)
    nothing = theta[pull.abs() <= 1e-9 * scale] * (180 / math.pi)
    if weakest > -1e-9 * scale and strongest > 1e-9 * scale:
        low, high = float(nothing.min()), float(nothing.max())
        where = f"from {low:.0f} to {high:.0f}" if low < high else f"near {low:.0f}"
        reason = (
            f"it descends, but without pull at angles {where} degrees: "
            "the derivative is zero where the student is wrong"
        )
        return Descent(True, reason, theta, pull, drift)
    if max(abs(weakest), abs(strongest)) <= 1e-9 * max(scale, 1e-300):
        reason = (
            "the even part of the derivative is zero (an odd rule): "
            "the expected coarse gradient is zero at every angle"
        )
    elif strongest <= 1e-9 * scale:
        reason = "the derivative's even part is negative: it leads uphill at every angle"
    else:
        bad = theta[pull < -1e-9 * scale] * (180 / math.pi)
        reason = (
            f"it leads uphill at angles from {float(bad.min()):.0f} to {float(bad.max()):.0f} "
            "degrees: the derivative is negative where the student is wrong"
        )
    return Descent(False, reason, theta, pull, drift)
