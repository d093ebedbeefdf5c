"""Which backward rules can descend at all.

For Gaussian pre-activations A, student and teacher at the angle theta, and the same second
layer, the expected coarse gradient of the two-layer binary network points towards the teacher
in proportion to E[f'(A) phi(A cot theta)] (phi the normal density): a weighted mean of f' under
an even weight. An odd f' gives zero at every angle, a negative one points uphill.

Source: Yin et al. 2019, arXiv 1903.05662, lemma 5, for ReLU; the general form is ours.
"""

from __future__ import annotations

import numpy as np
import torch

from ste_lightning.errors import ConfigurationError, require
from ste_lightning.functional.estimator.surrogate import Surrogate

__all__ = ["pull_towards_teacher", "refuse_if_uphill"]

_NEGLIGIBLE = 1e-2  # of the largest |f'|: a constant rule pulls with 0.28


def pull_towards_teacher(rule: Surrogate, angle: float = 1.5707963267948966) -> float:
    """Return E[f'(A) phi(A cot angle)], A standard normal; positive means that ``rule`` descends.

    Args:
        rule: the backward rule, evaluated in float64.
        angle: between student and teacher, in radians, in (0, pi); default a right angle.
    """
    points = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    cot = float(np.cos(angle) / np.sin(angle))
    weight = torch.exp(-0.5 * points.square() * (1 + cot * cot)) / (2 * np.pi)
    return float(torch.trapezoid(rule.derivative(points) * weight, points))


def refuse_if_uphill(rule: Surrogate) -> None:
    """Raise unless ``rule`` is an elementwise rule that can descend.

    Raises:
        ConfigurationError: with the reason: wrong shape, not finite, odd, or negative.
    """
    points = torch.linspace(-3, 3, 7, dtype=torch.float64)
    values = rule.derivative(points)
    require(
        isinstance(values, torch.Tensor)
        and values.shape == points.shape
        and values.is_floating_point(),
        "derivative",
        rule.derivative,
        "it must return a tensor of the shape and kind of its input",
    )
    require(
        bool(values.isfinite().all()),
        "derivative",
        rule.derivative,
        "it must be finite on [-3, 3]",
    )
    pull = pull_towards_teacher(rule)
    size = float(values.abs().max())
    if pull > _NEGLIGIBLE * size:
        return
    reason = (
        "it is odd, so its expected coarse gradient is zero at every angle to the optimum"
        if abs(pull) <= _NEGLIGIBLE * size
        else "it is negative on average, so it points uphill"
    )
    raise ConfigurationError(
        f"derivative={rule.derivative!r} cannot descend: {reason}. "
        "Use a derivative with a positive even part, such as 1[|x| <= 1]."
    )
