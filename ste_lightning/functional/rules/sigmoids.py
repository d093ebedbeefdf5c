"""Rules that are the derivative of a smooth sigmoid curve."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import torch
from torch import Tensor

from ste_lightning.errors import require
from ste_lightning.functional.estimator.surrogate import Surrogate, is_positive, register

__all__ = ["EDE", "Arctan", "Gaussian", "Sigmoid", "SuperSpike", "Swish", "Tanh"]

# Past this argument exp underflows in every dtype; clamping keeps inf * 0 out of the tails.
_FAR = 800.0


@register("swish", "swish_sign")
@dataclasses.dataclass(frozen=True)
class Swish(Surrogate):
    """SwishSign: f'(x) = beta (2 - beta x tanh(beta x / 2)) / (1 + cosh(beta x)).

    Negative for beta |x| > 2.40: a gradient that pushes far elements back.
    """

    beta: float = 5.0
    equation: ClassVar[str] = "f'(x) = beta (2 - beta x tanh(beta x/2)) / (1 + cosh(beta x))"
    paper: ClassVar[str] = "Darabi et al. 2018, arXiv 1812.11800 (BNN+)"

    def __post_init__(self) -> None:
        require(is_positive(self.beta), "beta", self.beta, "use a positive number")

    def derivative(self, x: Tensor) -> Tensor:
        """Return the derivative, with 1 / (1 + cosh z) written as 2 sigmoid(z) sigmoid(-z)."""
        z = (self.beta * x).clamp(-_FAR, _FAR)
        bell = 2 * torch.sigmoid(z) * torch.sigmoid(-z)
        return self.beta * (2 - z * torch.tanh(z / 2)) * bell

    def virtual(self, x: Tensor) -> Tensor:
        """Return 2 sigmoid(z) (1 + z (1 - sigmoid(z))) - 1 with z = beta x."""
        z = (self.beta * x).clamp(-_FAR, _FAR)
        return 2 * torch.sigmoid(z) * (1 + z * torch.sigmoid(-z)) - 1


@register("ede", "irnet")
@dataclasses.dataclass(frozen=True)
class EDE(Surrogate):
    """f'(x) = k t (1 - tanh^2(t x)): IR-Net's error decay estimator.

    ``t`` grows in training from 0.1 to 10 and ``k = max(1 / t, 1)``; see
    :func:`ste_lightning.functional.schedules.ede`.
    """

    t: float = 1.0
    k: float = 1.0
    equation: ClassVar[str] = "f'(x) = k t (1 - tanh^2(t x))"
    paper: ClassVar[str] = "Qin et al. 2020, arXiv 1909.10788, section 3.3 (IR-Net)"

    def __post_init__(self) -> None:
        require(is_positive(self.t), "t", self.t, "use a positive number")
        require(is_positive(self.k), "k", self.k, "use a positive number")

    def derivative(self, x: Tensor) -> Tensor:
        """Return k t (1 - tanh^2(t x))."""
        return self.k * self.t * (1 - torch.tanh(self.t * x).square())

    def virtual(self, x: Tensor) -> Tensor:
        """Return k tanh(t x)."""
        return self.k * torch.tanh(self.t * x)


@register("tanh")
@dataclasses.dataclass(frozen=True)
class Tanh(Surrogate):
    """f'(x) = slope (1 - tanh^2(slope x))."""

    slope: float = 1.0
    equation: ClassVar[str] = "f'(x) = slope (1 - tanh^2(slope x))"
    paper: ClassVar[str] = "Gong et al. 2019, arXiv 1908.05033 (DSQ)"

    def __post_init__(self) -> None:
        require(is_positive(self.slope), "slope", self.slope, "use a positive number")

    def derivative(self, x: Tensor) -> Tensor:
        """Return slope (1 - tanh^2(slope x))."""
        return self.slope * (1 - torch.tanh(self.slope * x).square())

    def virtual(self, x: Tensor) -> Tensor:
        """Return tanh(slope x)."""
        return torch.tanh(self.slope * x)


@register("sigmoid")
@dataclasses.dataclass(frozen=True)
class Sigmoid(Surrogate):
    """f'(x) = slope s (1 - s) with s = sigmoid(slope x)."""

    slope: float = 1.0
    equation: ClassVar[str] = "f'(x) = slope s (1 - s), s = sigmoid(slope x)"
    paper: ClassVar[str] = "Zenke and Vogels 2021, Neural Computation 33(4)"

    def __post_init__(self) -> None:
        require(is_positive(self.slope), "slope", self.slope, "use a positive number")

    def derivative(self, x: Tensor) -> Tensor:
        """Return slope s (1 - s)."""
        z = self.slope * x
        return self.slope * torch.sigmoid(z) * torch.sigmoid(-z)

    def virtual(self, x: Tensor) -> Tensor:
        """Return sigmoid(slope x)."""
        return torch.sigmoid(self.slope * x)


@register("arctan", "atan")
@dataclasses.dataclass(frozen=True)
class Arctan(Surrogate):
    """f'(x) = (alpha / 2) / (1 + (pi alpha x / 2)^2)."""

    alpha: float = 2.0
    equation: ClassVar[str] = "f'(x) = (alpha/2) / (1 + (pi alpha x / 2)^2)"
    paper: ClassVar[str] = "Fang et al. 2021, arXiv 2007.05785"

    def __post_init__(self) -> None:
        require(is_positive(self.alpha), "alpha", self.alpha, "use a positive number")

    def derivative(self, x: Tensor) -> Tensor:
        """Return (alpha / 2) / (1 + (pi alpha x / 2)^2)."""
        return (self.alpha / 2) / (1 + (math.pi / 2 * self.alpha * x).square())

    def virtual(self, x: Tensor) -> Tensor:
        """Return arctan(pi alpha x / 2) / pi + 1/2."""
        return torch.arctan(math.pi / 2 * self.alpha * x) / math.pi + 0.5


@register("superspike", "fast_sigmoid")
@dataclasses.dataclass(frozen=True)
class SuperSpike(Surrogate):
    """f'(x) = 1 / (1 + slope |x|)^2."""

    slope: float = 1.0
    equation: ClassVar[str] = "f'(x) = 1 / (1 + slope |x|)^2"
    paper: ClassVar[str] = "Zenke and Ganguli 2018, arXiv 1705.11146"

    def __post_init__(self) -> None:
        require(is_positive(self.slope), "slope", self.slope, "use a positive number")

    def derivative(self, x: Tensor) -> Tensor:
        """Return 1 / (1 + slope |x|)^2."""
        return (1 + self.slope * x.abs()).reciprocal().square()

    def virtual(self, x: Tensor) -> Tensor:
        """Return x / (1 + slope |x|)."""
        return x / (1 + self.slope * x.abs())


@register("gaussian")
@dataclasses.dataclass(frozen=True)
class Gaussian(Surrogate):
    """f'(x) = exp(-x^2 / (2 sigma^2)) / (sigma sqrt(2 pi)): the normal density."""

    sigma: float = 1.0
    equation: ClassVar[str] = "f'(x) = exp(-x^2 / (2 sigma^2)) / (sigma sqrt(2 pi))"
    paper: ClassVar[str] = "Yin et al. 2021, Nature Machine Intelligence 3 (spiking networks)"

    def __post_init__(self) -> None:
        require(is_positive(self.sigma), "sigma", self.sigma, "use a positive number")

    def derivative(self, x: Tensor) -> Tensor:
        """Return the normal density with standard deviation sigma."""
        return torch.exp(-0.5 * (x / self.sigma).square()) / (self.sigma * math.sqrt(2 * math.pi))

    def virtual(self, x: Tensor) -> Tensor:
        """Return the normal distribution function of x / sigma."""
        return 0.5 * (1 + torch.erf(x / (self.sigma * math.sqrt(2))))
