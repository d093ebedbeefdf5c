r"""The four Gaussian moments that decide a backward rule's expected coarse gradient.

With A standard normal, M(a) = f'(\|w\| a), theta the angle between w and w*, cot = cot(theta):

    positive = E[A M 1(A > 0)]      teacher = E[A M Phi(A cot)]
    mean     = E[A M]               cross   = E[M phi(A cot)]

Closed forms for the window rules; adaptive Gauss-Legendre quadrature for all others.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ste_lightning.errors import require
from ste_lightning.functional import Surrogate
from ste_lightning.functional.rules import Clipped, ClippedReLU, Identity, ReLU

__all__ = ["Moments", "expectation", "moments"]

_PHI0 = 1 / math.sqrt(2 * math.pi)
_NODES, _WEIGHTS = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(12))


@dataclasses.dataclass(frozen=True)
class Moments:
    """The moments at given angles, float64 tensors of the angles' shape."""

    positive: Tensor
    teacher: Tensor
    mean: Tensor
    cross: Tensor


def _density(a: Tensor) -> Tensor:
    return _PHI0 * torch.exp(-0.5 * a.square())


def expectation(f: Callable[[Tensor], Tensor], marks: Tensor | None = None) -> Tensor:
    """Return E[f(A)], A standard normal, to about 1e-12, also where f jumps.

    Adaptive quadrature on [-12, 12]: panels on which 12 Gauss-Legendre points and their two
    halves disagree are halved, down to a width that a jump in f cannot make matter.

    Args:
        f: maps points (P,) to values (..., P), in float64.
        marks: points near which f changes fast or jumps. Needed only for features narrower
            than 0.01, which no point of the first panels would see.
    """
    edges = torch.linspace(-12, 12, 49, dtype=torch.float64)
    if marks is not None:
        edges = torch.cat([edges, marks.double().clamp(-12, 12)]).sort().values

    def integrate(low: Tensor, high: Tensor) -> Tensor:
        half = (high - low) / 2
        a = (low + high)[:, None] / 2 + half[:, None] * _NODES
        values = f(a.flatten()) * _density(a.flatten())
        result: Tensor = (values.reshape(*values.shape[:-1], *a.shape) @ _WEIGHTS) * half
        return result

    low, high = edges[:-1], edges[1:]
    whole = integrate(low, high)
    total = torch.zeros(whole.shape[:-1], dtype=torch.float64)
    for _ in range(44):
        middle = (low + high) / 2
        left, right = integrate(low, middle), integrate(middle, high)
        error = (left + right - whole).abs()
        rough = (error > 1e-14).flatten(0, -2).any(0) if error.dim() > 1 else error > 1e-14
        total = total + torch.where(rough, 0.0, left + right).sum(-1)
        if not bool(rough.any()):
            return total
        low = torch.cat([low[rough], middle[rough]])
        high = torch.cat([middle[rough], high[rough]])
        whole = torch.cat([left[..., rough], right[..., rough]], -1)
    return total + whole.sum(-1)


def moments(rule: Surrogate, theta: Tensor, norm: Tensor, quadrature: bool = False) -> Moments:
    """Return the moments of ``rule`` at angles ``theta`` for students of length ``norm``.

    Args:
        rule: a backward rule of the step, elementwise.
        theta: angles in [0, pi], float64, any shape.
        norm: length of w, of the same shape.
        quadrature: do not use the closed forms (to check them).
    """
    require(
        "activations" in rule.operands,
        "rule",
        rule.name,
        "it is meant for weights; use an elementwise rule for the step",
    )
    sin, cos = theta.sin(), theta.cos()
    zero = torch.zeros_like(theta)
    if isinstance(rule, Identity) and not quadrature:
        return Moments(_PHI0 + zero, _PHI0 * cos, zero, _PHI0 * sin)
    if isinstance(rule, ReLU) and not quadrature:
        return Moments(_PHI0 + zero, _PHI0 * (1 + cos) / 2, _PHI0 + zero, _PHI0 * sin / 2)
    if isinstance(rule, (ClippedReLU, Clipped)) and not quadrature:
        return _window(rule, theta, norm)
    parts = [_quadrature(rule, t, r) for t, r in zip(theta.flatten(), norm.flatten(), strict=True)]
    return Moments(*torch.stack(parts, 1).reshape(4, *theta.shape))


def _window(rule: ClippedReLU | Clipped, theta: Tensor, norm: Tensor) -> Moments:
    """Integrate by parts on [0, tau], and on [-tau, 0] too for the symmetric window."""
    symmetric = isinstance(rule, Clipped)
    tau = (rule.width if isinstance(rule, Clipped) else rule.upper) / norm
    sin = theta.sin().clamp(min=1e-300)
    x = tau * theta.cos() / sin
    peak = _PHI0 - _density(tau)
    cross = _PHI0 * sin * (torch.special.ndtr(tau / sin) - 0.5)
    slope = theta.cos() * _PHI0 * (torch.special.ndtr(tau / sin) - 0.5)
    if symmetric:
        odd = torch.special.ndtr(x) - torch.special.ndtr(-x)
        return Moments(peak, 2 * slope - _density(tau) * odd, torch.zeros_like(tau), 2 * cross)
    teacher = _PHI0 / 2 - _density(tau) * torch.special.ndtr(x) + slope
    return Moments(peak, teacher, peak, cross)


def _quadrature(rule: Surrogate, theta: Tensor, norm: Tensor) -> Tensor:
    cot = theta.cos() / theta.sin().clamp(min=1e-12)
    spike = theta.tan().abs().clamp(max=12.0) * torch.tensor([0.5, 1.0, 2.0, 4.0, 8.0])
    kinks = [1.0, *(p for p in rule.parameters().values() if isinstance(p, (int, float)))]
    marks = torch.cat([spike.double(), torch.tensor(kinks, dtype=torch.float64) / norm])

    def integrand(a: Tensor) -> Tensor:
        M = rule.derivative(norm * a)
        aM = a * M
        return torch.stack(
            [aM * (a > 0), aM * torch.special.ndtr(a * cot), aM, M * _density(a * cot)]
        )

    return expectation(integrand, torch.cat([marks, -marks]))
