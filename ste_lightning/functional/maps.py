"""The two binary forward maps: sign onto {-1, +1} and step onto {0, 1}."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor
from torch.nn import Parameter

from ste_lightning.errors import require
from ste_lightning.functional.estimator.borrowed_nodes import borrowed_node
from ste_lightning.functional.estimator.straight_through import straight_through
from ste_lightning.functional.estimator.surrogate import Surrogate, Window, surrogate
from ste_lightning.functional.hard_maps import hard_sign, hard_step
from ste_lightning.functional.saved import bit_masks

__all__ = ["hard_sign", "hard_step", "sign", "sign_with", "step", "step_with"]

_NUMBERS = Window(-math.inf, math.inf)  # all of them but -inf; not NaN


def sign(x: Tensor, rule: str | Surrogate = "clipped", **params: Any) -> Tensor:
    """Quantize to {-1, +1}: +1 where x >= 0 (so ``sign(-0.0) = sign(0.0) = +1``), else -1.

    Args:
        x: floating-point tensor of any shape; the result has its shape and dtype. NaN gives +1.
        rule: the backward rule, a name or a :class:`Surrogate`; default the clipped
            straight-through estimator, f'(x) = 1[|x| <= 1].
        params: the rule's parameters, when ``rule`` is a name.

    Returns:
        A tensor of -1 and +1 whose gradient is ``grad * f'(x)``.

    Raises:
        ConfigurationError: for an unknown rule or parameter, or for integer input.

    Source: Hubara et al. 2016, arXiv 1602.02830.
    """
    require(x.is_floating_point(), "x.dtype", x.dtype, "quantizers take floating-point tensors")
    rule = surrogate(rule, **params)
    # an activation is not kept whole where a mask of it will do; a parameter is kept anyway
    return sign_with(x, rule) if type(x) is Parameter else straight_through(x, hard_sign, rule)


def step(x: Tensor, rule: str | Surrogate = "relu", **params: Any) -> Tensor:
    """Quantize to {0, 1}: the Heaviside step 1[x > 0], so ``step(0) = 0``.

    Args:
        x: floating-point tensor of any shape; the result has its shape and dtype. NaN gives 0.
        rule: the backward rule, a name or a :class:`Surrogate`; default the derivative of ReLU,
            f'(x) = 1[x > 0].
        params: the rule's parameters, when ``rule`` is a name.

    Returns:
        A tensor of 0 and 1 whose gradient is ``grad * f'(x)``.

    Raises:
        ConfigurationError: for an unknown rule or parameter, or for integer input.

    Source: Yin et al. 2019, arXiv 1903.05662, section 2 (binary activation).
    """
    require(x.is_floating_point(), "x.dtype", x.dtype, "quantizers take floating-point tensors")
    return straight_through(x, hard_step, surrogate(rule, **params))


def sign_with(x: Tensor, rule: Surrogate) -> Tensor:
    """Return :func:`sign` of a floating-point tensor, which may be kept whole if it is small."""
    y = borrowed_node(x, rule)
    if y is None:
        return straight_through(x, hard_sign, rule)
    values = y.data  # autograd need not know: the node does not read them
    if type(x) is Parameter or rule.remembers == "nothing":
        bit_masks.signs(x.detach(), values)
    elif not bit_masks.signs_inside(x, values, _NUMBERS):  # some of torch's kernels pass NaN
        return straight_through(x, hard_sign, rule)
    return y


def step_with(x: Tensor, rule: Surrogate) -> Tensor:
    """Return :func:`step` of a floating-point tensor, which may be kept whole if it is small."""
    y = borrowed_node(x, rule)
    if y is None or math.isnan(y.data.sum()):  # as above
        return straight_through(x, hard_step, rule)
    y.data.sign_().clamp_min_(0)
    return y
