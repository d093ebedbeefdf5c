"""A rule made from any callable."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from ste_lightning.errors import require
from ste_lightning.functional.estimator.rule_check import refuse_if_uphill
from ste_lightning.functional.estimator.surrogate import Surrogate, antiderivative, register

__all__ = ["Custom"]


@register("custom")
@dataclasses.dataclass(frozen=True)
class Custom(Surrogate):
    """f'(x) = derivative(x), any elementwise function of yours.

    ``virtual`` is its antiderivative; left out, it is found by quadrature.

    Raises:
        ConfigurationError: if ``derivative`` is not callable, changes the shape, or cannot
            descend (odd or negative; see :mod:`ste_lightning.functional.estimator.rule_check`).
    """

    derivative: Callable[[Tensor], Tensor] = dataclasses.field()  # type: ignore[assignment]
    virtual: Callable[[Tensor], Tensor] | None = None  # type: ignore[assignment]
    equation: ClassVar[str] = "f'(x) = derivative(x)"
    paper: ClassVar[str] = "yours"
    even: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require(
            callable(self.derivative), "derivative", self.derivative, "pass a function of a tensor"
        )
        if self.virtual is None:
            object.__setattr__(self, "virtual", functools.partial(antiderivative, self.derivative))
        if not torch.compiler.is_compiling():
            refuse_if_uphill(self)
