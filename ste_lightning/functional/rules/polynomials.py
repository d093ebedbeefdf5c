"""Rules with a piecewise linear derivative."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from torch import Tensor

from ste_lightning.errors import require
from ste_lightning.functional.estimator.surrogate import Surrogate, is_positive, register

__all__ = ["Approx", "Triangular"]


@register("approx", "approx_sign", "bireal")
@dataclasses.dataclass(frozen=True)
class Approx(Surrogate):
    """f'(x) = max(2 - 2|x|, 0): Bi-Real Net's polynomial ApproxSign."""

    equation: ClassVar[str] = "f'(x) = (2 - 2|x|) 1[|x| <= 1]"
    paper: ClassVar[str] = "Liu et al. 2018, arXiv 1808.00278, section 3.2"

    def derivative(self, x: Tensor) -> Tensor:
        """Return 2 - 2|x| on [-1, 1], 0 outside."""
        return (2 - 2 * x.abs()).clamp_min(0)

    def virtual(self, x: Tensor) -> Tensor:
        """Return 2x - x|x| on [-1, 1], -1 and +1 outside."""
        inside = x.clamp(-1, 1)
        return inside * (2 - inside.abs())


@register("triangular", "triangle")
@dataclasses.dataclass(frozen=True)
class Triangular(Surrogate):
    """f'(x) = max(1 - |x| / width, 0): the hat function of spiking networks."""

    width: float = 1.0
    equation: ClassVar[str] = "f'(x) = max(1 - |x| / width, 0)"
    paper: ClassVar[str] = "Esser et al. 2016, arXiv 1603.08270; Bellec et al. 2018, 1803.09574"

    def __post_init__(self) -> None:
        require(is_positive(self.width), "width", self.width, "use a positive number")

    def derivative(self, x: Tensor) -> Tensor:
        """Return 1 - |x| / width on [-width, width], 0 outside."""
        return (1 - x.abs() / self.width).clamp_min(0)

    def virtual(self, x: Tensor) -> Tensor:
        """Return x - x|x| / (2 width) on [-width, width], constant outside."""
        inside = x.clamp(-self.width, self.width)
        return inside * (1 - inside.abs() / (2 * self.width))
