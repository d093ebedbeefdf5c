"""Every backward rule, one class each; importing this package registers them."""

from ste_lightning.functional.rules.custom import Custom
from ste_lightning.functional.rules.fourier import Fourier
from ste_lightning.functional.rules.polynomials import Approx, Triangular
from ste_lightning.functional.rules.powers import ReSTE
from ste_lightning.functional.rules.sigmoids import (
    EDE,
    Arctan,
    Gaussian,
    Sigmoid,
    SuperSpike,
    Swish,
    Tanh,
)
from ste_lightning.functional.rules.windows import (
    Clipped,
    ClippedReLU,
    Identity,
    Leaky,
    MagnitudeAware,
    ReLU,
)

__all__ = [
    "EDE",
    "Approx",
    "Arctan",
    "Clipped",
    "ClippedReLU",
    "Custom",
    "Fourier",
    "Gaussian",
    "Identity",
    "Leaky",
    "MagnitudeAware",
    "ReLU",
    "ReSTE",
    "Sigmoid",
    "SuperSpike",
    "Swish",
    "Tanh",
    "Triangular",
]
