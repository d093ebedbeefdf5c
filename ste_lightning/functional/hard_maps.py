"""Sign and step without a gradient."""

from __future__ import annotations

from torch import Tensor

__all__ = ["hard_sign", "hard_step"]


def hard_sign(x: Tensor) -> Tensor:
    """Return +1 where x >= 0 (also -0.0) and -1 elsewhere, without a gradient rule.

    Two in-place passes after ``torch.sign`` are several times cheaper than ``torch.where``.
    """
    return x.sign().add_(0.5).sign_()


def hard_step(x: Tensor) -> Tensor:
    """Return 1 where x > 0 and 0 elsewhere, without a gradient rule."""
    return x.sign().clamp_min_(0)
