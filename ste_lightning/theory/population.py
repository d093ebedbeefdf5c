r"""Infinitely many samples: the loss and the coarse gradient that Gaussian data give on average.

Student y = v^T step(Z w), teacher v*^T step(Z w*), rows of Z standard normal; theta the angle
between w and w*, wh and w*h their directions, u = (w*h - cos(theta) wh) / sin(theta). Label
noise has mean zero and leaves all gradients here unchanged.

Sources: Yin et al. 2019, arXiv 1903.05662, for the loss and ReLU's gradient at v = v*; the
general forms (any f', v != v*) are our derivation, checked by Monte Carlo in the tests.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ste_lightning import functional as SF
from ste_lightning.errors import require
from ste_lightning.theory.descent import Descent, can_descend
from ste_lightning.theory.moments import moments
from ste_lightning.theory.stability import Stability, local_stability

__all__ = [
    "Descent",
    "Stability",
    "angle",
    "can_descend",
    "coarse_gradient",
    "gradient",
    "local_stability",
    "loss",
]


def angle(w: Tensor, w_star: Tensor) -> Tensor:
    """Return the angle between ``w`` and ``w_star``, shape (..., n), in [0, pi]; float64.

    By half the chord, which is exact near 0 and pi where the arc cosine is not.
    """
    a, b = _direction(w, "w"), _direction(w_star, "w_star")
    return 2 * torch.atan2((a - b).norm(dim=-1), (a + b).norm(dim=-1))


def loss(
    w: Tensor, w_star: Tensor, v: Tensor, v_star: Tensor | None = None, noise: float = 0.0
) -> Tensor:
    r"""Return the population loss :math:`E[(y - y^*)^2] / 2`.

    .. math:: \tfrac18 [v^T(I+J)v - 2 v^T((1 - 2\theta/\pi)I + J)v^* + v^{*T}(I+J)v^*]
              + \sigma^2/2

    with J all ones; :math:`\|v\|^2 \theta / 2\pi + \sigma^2 / 2` for v = v*.

    Args:
        w: student's first layer, (..., n); only its direction counts.
        w_star: teacher's, likewise.
        v: student's second layer, (..., m).
        v_star: teacher's; default ``v``.
        noise: standard deviation sigma of the label noise.
    """
    theta = angle(w, w_star)
    v, v_star = _second_layers(v, v_star)

    def form(a: Tensor, b: Tensor, diagonal: Tensor) -> Tensor:
        return diagonal * (a * b).sum(-1) + a.sum(-1) * b.sum(-1)

    one = torch.ones_like(theta)
    both = form(v, v, one) + form(v_star, v_star, one)
    mixed = form(v, v_star, 1 - 2 * theta / math.pi)
    return (both - 2 * mixed) / 8 + noise**2 / 2


def gradient(w: Tensor, w_star: Tensor, v: Tensor, v_star: Tensor | None = None) -> Tensor:
    r"""Return the population loss's own gradient in w: :math:`-(v^T v^*) u / (2\pi\|w\|)`.

    Zero where theta is 0 or pi, where the loss has a kink.

    Args: as of :func:`loss`, with w of any length.
    """
    v, v_star = _second_layers(v, v_star)
    across = _across(w, w_star)
    size = (v * v_star).sum(-1, keepdim=True) / (2 * math.pi)
    result: Tensor = -size * across / w.double().norm(dim=-1, keepdim=True)
    return result


def coarse_gradient(
    w: Tensor,
    w_star: Tensor,
    v: Tensor,
    v_star: Tensor | None = None,
    rule: str | SF.Surrogate = "relu",
    quadrature: bool = False,
) -> Tensor:
    r"""Return the expected coarse gradient :math:`E[\sum_j Z_j f'(Z_j w) v_j (y - y^*)]`.

    With the four moments of :mod:`ste_lightning.theory.moments`, :math:`s = 1^T v`,

    .. math:: \hat w [\|v\|^2 m_+ - v^T v^* m_t
              + \tfrac12 m_1 (s^2 - \|v\|^2 - s s^* + v^T v^*)] - u\, v^T v^*\, m_\times

    For v = v*: identity :math:`\|v\|^2(\hat w - \hat w^*)/\sqrt{2\pi}`, ReLU half of it.

    Args:
        w: student's first layer, (..., n), at its true length (1 for binary weights).
        w_star: teacher's, (..., n).
        v: student's second layer, (..., m).
        v_star: teacher's; default ``v``.
        rule: the step's backward rule.
        quadrature: do not use the closed forms of identity, relu, clipped_relu and clipped.

    Returns:
        Shape (..., n), float64.
    """
    v, v_star = _second_layers(v, v_star)
    theta = angle(w, w_star)
    length = w.double().norm(dim=-1).expand(theta.shape)
    m = moments(SF.surrogate(rule), theta, length, quadrature)
    own, other = v.square().sum(-1), (v * v_star).sum(-1)
    s, s_star = v.sum(-1), v_star.sum(-1)
    along = own * m.positive - other * m.teacher
    along = along + 0.5 * m.mean * (s * s - own - s * s_star + other)
    cross = (other * m.cross)[..., None]
    result: Tensor = along[..., None] * _direction(w, "w") - cross * _across(w, w_star)
    return result


def _direction(w: Tensor, name: str) -> Tensor:
    w = w.double()
    length = w.norm(dim=-1, keepdim=True)
    require(bool((length > 0).all()), name, "a zero vector", "it must have a direction")
    direction: Tensor = w / length
    return direction


def _across(w: Tensor, w_star: Tensor) -> Tensor:
    """Return u, the unit vector from w towards w*, at right angles to w; 0 if there is none."""
    a, b = _direction(w, "w"), _direction(w_star, "w_star")
    rest = b - (a * b).sum(-1, keepdim=True) * a
    length = rest.norm(dim=-1, keepdim=True)
    return torch.where(length > 1e-12, rest / length.clamp(min=1e-300), 0.0)


def _second_layers(v: Tensor, v_star: Tensor | None) -> tuple[Tensor, Tensor]:
    v = v.double()
    v_star = v if v_star is None else v_star.double()
    require(
        v.shape[-1] == v_star.shape[-1], "v_star", tuple(v_star.shape), "give it as many rows as v"
    )
    return v, v_star
