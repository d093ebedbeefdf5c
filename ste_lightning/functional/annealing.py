"""Forward maps that harden during training."""

from __future__ import annotations

import torch
from torch import Tensor

from ste_lightning.functional.hard_maps import hard_sign

__all__ = ["soft_sign"]

_HARD = 1e-7  # from here down the ramp is a jump (float16 can just hold it)


def soft_sign(x: Tensor, rho: Tensor | float, bound: Tensor | float = 1.0) -> Tensor:
    """Return clip(x / rho, -bound, bound), and bound sign(x) once rho <= 1e-7.

    The proximal map of the distance to {-bound, +bound}: at rho = 1 it only clips, at 0 it is
    the sign. Not to be differentiated: give it a rule by
    :func:`~ste_lightning.functional.replace_value`.

    Args:
        x: tensor of any shape; the result has its shape and dtype.
        rho: the width of the ramp, 0-d.
        bound: the levels' magnitude, broadcastable against ``x``.

    Source: Jin et al. 2025, arXiv 2503.15748 (PARQ), section 3; with bound = 1 bitorch's
    ProgressiveSign, rho = 1 - T.
    """
    rho = torch.as_tensor(rho, dtype=x.dtype, device=x.device)
    bound = torch.as_tensor(bound, dtype=x.dtype, device=x.device)
    ramp = (x / rho.clamp_min(_HARD)).minimum(bound).maximum(-bound)
    return torch.where(rho > _HARD, ramp, hard_sign(x) * bound)
