"""FDA: the Fourier series of a square wave."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import torch
from torch import Tensor

from ste_lightning.errors import require
from ste_lightning.functional.estimator.surrogate import Surrogate, is_positive, register

__all__ = ["Fourier"]


@register("fourier", "fda")
@dataclasses.dataclass(frozen=True)
class Fourier(Surrogate):
    """Derivative of the first ``terms`` Fourier terms of a square wave, near its jump at 0.

    f(x) = (4 / pi) sum_{i < terms} sin((2i+1) omega x) / (2i+1), so
    f'(x) = (4 omega / pi) sum_{i < terms} cos((2i+1) omega x), and zero beyond the main lobe
    |x| > pi / (2 terms omega), where the sum changes sign and would push uphill.
    """

    omega: float = 0.1
    terms: int = 10
    equation: ClassVar[str] = "f'(x) = (4 omega/pi) sum_i cos((2i+1) omega x) on the main lobe"
    paper: ClassVar[str] = "Xu et al. 2021, arXiv 2103.00841 (FDA-BNN), section 3.1"

    def __post_init__(self) -> None:
        require(is_positive(self.omega), "omega", self.omega, "use a positive number")
        require(
            isinstance(self.terms, int) and self.terms >= 1,
            "terms",
            self.terms,
            "use a positive integer",
        )

    def _lobe(self) -> float:
        return math.pi / (2 * self.terms * self.omega)

    def derivative(self, x: Tensor) -> Tensor:
        """Return the cosine sum on the main lobe, 0 outside."""
        # sum_{i<n} cos((2i+1) a) = sin(2 n a) / (2 sin a), first zero at a = pi / (2n); the
        # smallest argument only keeps 0 / 0 away from the peak.
        tiny = torch.finfo(x.dtype).eps ** 0.75
        a = (self.omega * x.abs()).clamp(tiny, self.omega * self._lobe())
        total = torch.sin(2 * self.terms * a) / torch.sin(a)
        return (2 * self.omega / math.pi) * total * (x.abs() <= self._lobe())

    def virtual(self, x: Tensor) -> Tensor:
        """Return the sine sum on the main lobe, constant outside."""
        inside = x.clamp(-self._lobe(), self._lobe())
        total = torch.zeros_like(x)
        for i in range(self.terms):
            total = total + torch.sin((2 * i + 1) * self.omega * inside) / (2 * i + 1)
        return 4 / math.pi * total
