"""Backward rules that cannot descend, or hardly: what a study shows beside those that can.

They are not in the registry: nobody should train with them by accident. Pass an instance as
``rule=`` to :func:`ste_lightning.theory.simulate` or ``population.can_descend``.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
from torch import Tensor

from ste_lightning.errors import unknown
from ste_lightning.functional import Surrogate

__all__ = ["OddSign", "Tails", "WrongSign", "counterexample"]


@dataclasses.dataclass(frozen=True)
class OddSign(Surrogate):
    """f'(x) = 1[x > 0] - 1[x <= 0]: odd, so its expected coarse gradient is zero."""

    name: ClassVar[str] = "odd_sign"
    equation: ClassVar[str] = "f'(x) = 1[x > 0] - 1[x <= 0]"
    even: ClassVar[bool] = False

    def derivative(self, x: Tensor) -> Tensor:
        """Return +1 for positive elements, -1 for all others."""
        return torch.where(x > 0, 1.0, -1.0).to(x.dtype)


@dataclasses.dataclass(frozen=True)
class WrongSign(Surrogate):
    """f'(x) = -1: leads uphill."""

    name: ClassVar[str] = "wrong_sign"
    equation: ClassVar[str] = "f'(x) = -1"

    def derivative(self, x: Tensor) -> Tensor:
        """Return -1 everywhere."""
        return -torch.ones_like(x)


@dataclasses.dataclass(frozen=True)
class Tails(Surrogate):
    """f'(x) = 1[|x| >= width]: looks where student and teacher agree; descends, but slowly."""

    name: ClassVar[str] = "tails"
    equation: ClassVar[str] = "f'(x) = 1[|x| >= width]"
    width: float = 1.0

    def derivative(self, x: Tensor) -> Tensor:
        """Return 1 outside (-width, width), 0 inside."""
        return (x.abs() >= self.width).to(x.dtype)


_RULES: dict[str, type[Surrogate]] = {rule.name: rule for rule in (OddSign, WrongSign, Tails)}


def counterexample(name: str) -> Surrogate:
    """Return the rule of that name: ``odd_sign``, ``wrong_sign`` or ``tails``.

    Raises:
        ConfigurationError: for another name.
    """
    if name not in _RULES:
        raise unknown("counterexample", name, _RULES)
    return _RULES[name]()
