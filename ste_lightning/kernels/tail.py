"""What follows the last product: max pooling, a batch norm, bounds and a mean, in one pass."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, empty, zeros
from torch.nn.functional import linear

from ste_lightning.kernels.threads import share

__all__ = ["SmallLinear", "Tail"]


@functools.cache
def _compiled(name: str) -> Any:
    """Return a compiled function, importing numba at the first call."""
    from ste_lightning.kernels import tails

    return getattr(tails, name)()


class Tail:
    """Channels last to channels first: bounded scale x + shift, with pooling, then a mean.

    Args:
        window: (pixels, taps) int64, the first places of the pixels in each window, -1 for none.
        scale, shift: float32, one per channel.
        low, high: bounds of scale x + shift.
        late: whether to pool what is scaled and bounded, instead of pooling first.
        average: whether to return the mean over the pixels that remain.
    """

    def __init__(
        self,
        window: NDArray[np.int64],
        scale: NDArray[np.float32],
        shift: NDArray[np.float32],
        low: float,
        high: float,
        late: bool,
        average: bool,
    ) -> None:
        self._kept = (window, scale, shift)
        self.channels, self.pixels = len(scale), 1 if average else len(window)
        self._size = window.size * len(scale)
        self._given = (
            *(window.ctypes.data, *window.shape, self.channels, scale.ctypes.data),
            *(shift.ctypes.data, low, high, late, average),
        )

    def __call__(self, y: Tensor) -> Tensor:
        """Return float32 (images, channels, pixels) of contiguous (images, ..., channels)."""
        images = y.shape[0]
        out = empty(images, self.channels, self.pixels)
        work = _compiled("finish")
        given = (y.data_ptr(), y.numel() // max(images, 1), *self._given, out.data_ptr())
        share(lambda a, b: work(*given, a, b), images, 1 + (1 << 18) // self._size)
        return out


class SmallLinear:
    """x W^T + b, by compiled code where it is too little work for a call of torch to pay.

    Args:
        weight, bias: of a linear layer.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._weight, self._bias = weight.contiguous(), bias
        self._outputs, inputs = weight.shape
        self._added = zeros(self._outputs) if bias is None else bias.contiguous()
        weights = (self._weight.data_ptr(), self._added.data_ptr())
        self._given = (*weights, inputs, self._outputs)

    def __call__(self, x: Tensor) -> Tensor:
        """Return the product of contiguous float32 rows."""
        rows = x.shape[0]
        if rows * self._weight.numel() > _MOST_PRODUCTS:
            return linear(x, self._weight, self._bias)
        out = empty(rows, self._outputs)
        _compiled("multiply")(x.data_ptr(), *self._given, out.data_ptr(), rows)
        return out


_MOST_PRODUCTS = 1 << 15
