"""A backward rule as the compiled kernel takes it: a family and five parameters."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ste_lightning.functional import Surrogate
from ste_lightning.functional.rules import (
    EDE,
    Approx,
    Arctan,
    Clipped,
    ClippedReLU,
    Gaussian,
    Identity,
    Leaky,
    ReLU,
    ReSTE,
    Sigmoid,
    SuperSpike,
    Swish,
    Tanh,
    Triangular,
)
from ste_lightning.theory.counterexamples import OddSign, Tails, WrongSign

__all__ = ["Family", "family_of"]

Family = tuple[int, NDArray[np.float32]]

# The families' codes; the compiled module that uses them imports numba, this one must not.
WINDOW, TRIANGLE, BELL, GAUSS, CAUCHY, SPIKE, SWISH, POWER = range(8)


def _above(width: float) -> float:
    """Return the float32 above ``width``: |x| <= width is |x| < that."""
    return float(np.nextafter(np.float32(width), np.float32(math.inf)))


def _power(rule: ReSTE) -> tuple[int, list[float]]:
    cap = rule.m ** (1 / rule.o - 1)
    return POWER, [(1 - rule.o) / rule.o, 1 / rule.o, rule.m, cap, rule.t]


_CODES: dict[type[Surrogate], Callable[[Any], tuple[int, list[float]]]] = {
    Identity: lambda rule: (WINDOW, [-math.inf, math.inf, 1.0, 1.0]),
    ReLU: lambda rule: (WINDOW, [0.0, math.inf, 1.0, 0.0]),
    ClippedReLU: lambda rule: (WINDOW, [0.0, rule.upper, 1.0, 0.0]),
    Clipped: lambda rule: (WINDOW, [-_above(rule.width), _above(rule.width), 1.0, 0.0]),
    Leaky: lambda rule: (WINDOW, [-_above(rule.width), _above(rule.width), 1.0, rule.leak]),
    Triangular: lambda rule: (TRIANGLE, [1.0, 1 / rule.width]),
    Approx: lambda rule: (TRIANGLE, [2.0, 2.0]),
    Tanh: lambda rule: (BELL, [rule.slope, 2 * rule.slope]),
    EDE: lambda rule: (BELL, [rule.k * rule.t, 2 * rule.t]),
    Sigmoid: lambda rule: (BELL, [rule.slope / 4, rule.slope]),
    Gaussian: lambda rule: (
        GAUSS,
        [1 / (rule.sigma * math.sqrt(2 * math.pi)), 0.5 / rule.sigma**2],
    ),
    Arctan: lambda rule: (CAUCHY, [rule.alpha / 2, (math.pi * rule.alpha / 2) ** 2]),
    SuperSpike: lambda rule: (SPIKE, [rule.slope]),
    Swish: lambda rule: (SWISH, [rule.beta]),
    ReSTE: _power,
    OddSign: lambda rule: (WINDOW, [0.0, math.inf, 1.0, -1.0]),
    WrongSign: lambda rule: (WINDOW, [-math.inf, math.inf, -1.0, -1.0]),
    Tails: lambda rule: (WINDOW, [-rule.width, rule.width, 0.0, 1.0]),
}


def family_of(rule: Surrogate) -> Family | None:
    """Return ``(family, parameters)`` for the kernel, or ``None`` if it does not know the rule.

    Families and parameters: :mod:`ste_lightning.theory.engine.derivatives`. A rule whose
    parameters are tensors (driven by a schedule) is not known, nor is a subclass of a known one.
    """
    code = _CODES.get(type(rule))
    if code is None or any(isinstance(value, Tensor) for value in rule.parameters().values()):
        return None
    family, values = code(rule)
    parameters = np.zeros(5, np.float32)
    parameters[: len(values)] = values
    return family, parameters
