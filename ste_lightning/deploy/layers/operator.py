"""Packed modules as one operator of ``torch.library``, which compilers and exporters keep whole.

The operator names the module by a number that holds in this process; captured graphs turn it into
the module's name.
"""

from __future__ import annotations

import itertools
import weakref
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ste_lightning.errors import require

__all__ = ["OPERATOR", "EvalOnly", "Opaque"]

OPERATOR = "ste_lightning::packed"
_modules: weakref.WeakValueDictionary[int, Opaque] = weakref.WeakValueDictionary()
_numbers = itertools.count(1)


class EvalOnly(nn.Module):
    """Base of packed modules, which have no latent weights to train."""

    def train(self, mode: bool = True) -> Any:
        """Refuse training mode.

        Raises:
            ConfigurationError: for ``mode=True``.
        """
        require(not mode, "mode", mode, "packed modules are for evaluation; train the original")
        return super().train(mode)


class Opaque(EvalOnly):
    """Base of the modules whose call is one operator."""

    def __init__(self) -> None:
        super().__init__()
        self._register()

    def _register(self) -> None:
        self.handle = next(_numbers)
        _modules[self.handle] = self

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._register()

    @abstractmethod
    def computed(self, x: Tensor, growth: Sequence[int] = ()) -> Tensor:
        """Return the result, not necessarily contiguous.

        Args:
            x: the input.
            growth: of a transposed convolution, by how much one side grows; () for its own.
        """

    @abstractmethod
    def result_like(self, x: Tensor, growth: Sequence[int] = ()) -> Tensor:
        """Return an empty tensor of the result's shape and type; sizes may be symbols."""

    def called(self, x: Tensor, growth: Sequence[int] = ()) -> Tensor:
        """Return the contiguous result; inside compilers and exporters by the operator."""
        if torch.compiler.is_compiling():
            y: Tensor = torch.ops.ste_lightning.packed(x, self.handle, list(growth))
            return y
        return self.computed(x, growth).contiguous()


def _computed(x: Tensor, layer: int, growth: Sequence[int]) -> Tensor:
    y = _modules[layer].computed(x, growth).contiguous()
    return y.clone() if y is x else y


def _fake(x: Tensor, layer: int, growth: Sequence[int]) -> Tensor:
    return _modules[layer].result_like(x, growth)


torch.library.define(OPERATOR, "(Tensor x, int layer, SymInt[] growth) -> Tensor")
torch.library.impl(OPERATOR, "default", _computed)
torch.library.register_fake(OPERATOR, _fake)
