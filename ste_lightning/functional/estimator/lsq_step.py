"""Where one learned step is quantized by compiled code, and how."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from ste_lightning.functional.estimator.eager import is_plain_eager
from ste_lightning.kernels.jit.threads import share

__all__ = ["Step", "native_step"]

_LEAST = 1 << 18  # elements worth a thread of their own


@functools.cache
def _kernels() -> ModuleType | None:
    if importlib.util.find_spec("numba") is None:
        return None
    from ste_lightning.kernels.training import lsq

    return lsq


class Step:
    """One step, its start and its levels, as the numbers that compiled code takes."""

    def __init__(self, step: float, start: float, low: float, high: float) -> None:
        self.step, self.low, self.high = step, low, high
        self.numbers = tuple(np.float32(value) for value in (step, start, low, high))

    def quantize(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        """Return the nearest grid values, in ``out`` (contiguous, like ``x``) if given."""
        kernels = _kernels()
        assert kernels is not None
        y = torch.empty(x.shape) if out is None else out
        given, to = (x.data_ptr(), *self.numbers), y.data_ptr()
        share(lambda a, b: kernels.quantize(*given, to, a, b), x.numel(), _LEAST)
        return y

    def differentiate(self, grad: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradients in ``x`` and in the step, a number summed in float64.

        ``grad``, contiguous like ``x``, must be the caller's own: the gradient in ``x`` overwrites
        it. Fresh memory would cost as much as the pass.
        """
        kernels = _kernels()
        assert kernels is not None
        sums: dict[int, float] = {}
        given = (grad.data_ptr(), x.data_ptr(), *self.numbers)

        def part(first: int, last: int) -> None:
            total = ctypes.c_double()
            kernels.differentiate(*given, ctypes.addressof(total), first, last)
            sums[first] = total.value

        share(part, x.numel(), _LEAST)
        return grad, torch.tensor(sum(sums[first] for first in sorted(sums)), dtype=torch.float32)


def native_step(
    x: Tensor, scale: Tensor, offset: Tensor | None, low: float, high: float, smallest: float
) -> Step | None:
    """Return the step if compiled code can take it; ``None`` inside every transform of torch.

    Args: as of ``learned_scale_quantize``, ``offset`` ``None`` for 0; a scale below ``smallest``
    is used as that.
    """
    if type(x) not in (Tensor, torch.nn.Parameter) or not is_plain_eager(x):
        return None
    same = x.dtype == scale.dtype == torch.float32 and scale.numel() == 1
    if not same or not x.is_cpu or not x.is_contiguous() or _kernels() is None:
        return None
    if scale.dim() > x.dim():
        return None
    s, start = np.maximum(np.float32(scale.item()), np.float32(smallest)), np.float32(0)
    if offset is not None:
        if offset.dtype != torch.float32 or offset.numel() != 1:
            return None
        with np.errstate(all="ignore"):
            start = np.rint(np.float32(offset.item()) / s) * s
    return Step(float(s), float(start), low, high)
