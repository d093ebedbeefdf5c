"""ReSTE: the rectified straight-through estimator, a power function."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
from torch import Tensor

from ste_lightning.errors import require
from ste_lightning.functional.estimator.surrogate import (
    Surrogate,
    is_driven,
    is_positive,
    register,
)

__all__ = ["ReSTE"]


@register("reste")
@dataclasses.dataclass(frozen=True)
class ReSTE(Surrogate):
    """Derivative of sign(x)|x|^(1/o), capped below ``m`` and cut above ``t``.

    f'(x) = m^(1/o) / m for |x| <= m, |x|^((1-o)/o) / o for m < |x| <= t, 0 beyond. The order o
    grows from 1 (the clipped identity) to 3 in training; see
    :func:`ste_lightning.functional.schedules.reste`.
    """

    o: float = 3.0
    t: float = 1.5
    m: float = 0.1
    equation: ClassVar[str] = "f'(x) = |x|^((1-o)/o) / o on m < |x| <= t, m^(1/o)/m on |x| <= m"
    paper: ClassVar[str] = "Wu et al. 2023, arXiv 2308.06689 (ReSTE), section 3.3"

    def __post_init__(self) -> None:
        require(is_driven(self.o) or self.o >= 1, "o", self.o, "the order must be 1 or more")
        require(is_positive(self.m), "m", self.m, "use a positive number")
        ordered = is_driven(self.t) or is_driven(self.m) or self.t > self.m
        require(ordered, "t", self.t, f"the cut must lie above m={self.m}")

    def derivative(self, x: Tensor) -> Tensor:
        """Return the three-piece derivative."""
        size = x.abs()
        power = size.clamp(self.m, self.t) ** ((1 - self.o) / self.o) / self.o
        capped = torch.where(size <= self.m, self.m ** (1 / self.o - 1), power)
        return (capped * (size <= self.t)).to(x.dtype)

    def virtual(self, x: Tensor) -> Tensor:
        """Return sign(x) min(|x|, t)^(1/o), linear through the origin on |x| <= m."""
        size = x.abs().clamp_max(self.t)
        power = size.clamp_min(self.m) ** (1 / self.o)
        value = torch.where(size <= self.m, size * self.m ** (1 / self.o - 1), power)
        return (torch.sign(x) * value).to(x.dtype)
