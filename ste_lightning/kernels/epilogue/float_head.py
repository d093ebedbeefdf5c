"""What follows the last product: max pooling, a batch norm, bounds, a mean and a small layer."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, empty
from torch.nn.functional import linear

from ste_lightning.kernels.jit.threads import share
from ste_lightning.kernels.layout.array_record import record_of

__all__ = ["Tail"]

_MOST_PRODUCTS = 1 << 15  # of the last layer, for which a call of torch does not pay


@functools.cache
def _compiled(name: str) -> Any:
    """Return a compiled function, importing numba at the first call."""
    from ste_lightning.kernels.epilogue import float_head_loops

    return getattr(float_head_loops, name)()


class Tail:
    """Channels last to channels first: bounded scale x + shift, with pooling, then a mean.

    Args:
        window: (pixels, taps) int64, the first places of the pixels in each window, -1 for none.
        scale, shift: float32, one per channel.
        low, high: bounds of scale x + shift.
        late: whether to pool what is scaled and bounded, instead of pooling first.
        average: whether to return the mean over the pixels that remain.
        image: floats of an image that comes in.
        shape: of a sample that comes out, before the last layer.
        weight, bias: of a linear layer that comes last, float32.
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
        image: int,
        shape: tuple[int, ...],
        weight: Tensor | None = None,
        bias: Tensor | None = None,
    ) -> None:
        channels = len(scale)
        self.channels, self.pixels = channels, 1 if average else len(window)
        self.shape = shape if weight is None else (weight.shape[0],)
        self._before, self._size = shape, window.size * channels
        self._weight, self._bias = weight, bias
        weights = [np.empty(0, np.float32)] * 2
        inputs = outputs = 0
        if weight is not None:
            outputs, inputs = weight.shape
            added = np.zeros(outputs, np.float32) if bias is None else bias.contiguous().numpy()
            weights = [weight.contiguous().numpy(), added]
        self._arrays: tuple[NDArray[Any], ...] = (
            window,
            scale,
            shift,
            np.array([low, high], np.float32),
            *weights,
        )
        numbers = (image, *window.shape, channels, late, average, inputs, outputs)
        self._record = record_of(numbers, self._arrays)
        self._products = inputs * outputs
        self.address = int(self._record.ctypes.data)

    def small(self, images: int) -> bool:
        """Return whether compiled code alone is to compute this, by one thread."""
        products = images * self._products
        return products <= _MOST_PRODUCTS and images * self._size < 1 << 18

    def __call__(self, y: Tensor) -> Tensor:
        """Return float32 (images, *shape) of contiguous (images, ..., channels)."""
        images = y.shape[0]
        out = empty(images, self.channels, self.pixels)
        work, given = _compiled("finish"), (self.address, y.data_ptr(), out.data_ptr())
        share(lambda a, b: work(*given, a, b), images, 1 + (1 << 18) // self._size)
        out = out.view(images, *self._before)
        if self._weight is None:
            return out
        if images * self._products > _MOST_PRODUCTS:
            return linear(out, self._weight, self._bias)
        result = empty(images, *self.shape)
        _compiled("multiply")(self.address, out.data_ptr(), result.data_ptr(), images)
        return result
