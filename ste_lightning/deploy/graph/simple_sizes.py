"""A bound on how long the formulas of free sizes become while a network is captured."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

__all__ = ["IntricateSizesError", "SimpleSizes"]

_MOST = 60  # operations in the sizes of one tensor; a stack of convolutions has a dozen


class IntricateSizesError(RuntimeError):
    """Sizes that depend on free ones by long formulas."""


class SimpleSizes(TorchFunctionMode):
    """Inside, sizes that are long formulas are an error: torch takes minutes to compare them.

    Windows that are padded, moved and cut out of an image of any height and width have them.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call a function and look at the sizes of its result."""
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, Tensor) and _operations(tensor) > _MOST:
                raise IntricateSizesError("its sizes are too long formulas of the free ones")
        return result


def _operations(tensor: Tensor) -> int:
    """Return how many operations lead from free sizes to those of a tensor."""
    sizes: list[Any] = list(tensor.shape)
    symbols = [size for size in sizes if isinstance(size, torch.SymInt)]
    return sum(int(size.node.expr.count_ops()) for size in symbols)
