"""Gradients of convolutions of bits with bits from tables of sums instead of float products.

They differ from float products by rounding: compiled graphs use them, which promise no more.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ste_lightning.functional.products.specification import ConvolutionGeometry, OneBitProduct
from ste_lightning.kernels.jit.threads import share, shared_sum

__all__ = ["looked_up_gradients"]

_LEAST_SUMS = 64  # taps x channels that use a table; fewer do not pay for making it
_LEAST_WORK = 1 << 20  # multiplications of a call, and of a thread


def _share(count: int, width: int) -> float:
    """Return how much of groups of ``width`` is in use."""
    return count / (-(-count // width) * width)


def _pays(shape: NDArray[np.int64]) -> bool:
    images, _, channels, outputs, _, _, rows, columns, *kernel = (int(v) for v in shape[:10])
    sums = channels * kernel[0] * kernel[1]
    used = min(
        _share(outputs, 32) * _share(rows * columns, 16), _share(outputs, 16) * _share(columns, 4)
    )
    work = images * sums * outputs * rows * columns
    return sums >= _LEAST_SUMS and work >= _LEAST_WORK and used >= 0.5


def _shape(
    grad: Tensor, weight: Tensor, size: torch.Size, g: ConvolutionGeometry
) -> NDArray[np.int64]:
    """Return the convolution as compiled code reads it; in one dimension it has one row."""
    ones = [1] * (4 - len(size))
    return np.array(
        [
            size[0],
            g.groups,
            size[1] // g.groups,
            weight.shape[0] // g.groups,
            *(*ones, *size[2:]),
            *(*ones, *grad.shape[2:]),
            *(*ones, *weight.shape[2:]),
            *(*ones, *g.stride),
            *([0] * len(ones)),
            *g.padding,
            *(*ones, *g.dilation),
        ],
        np.int64,
    )


def looked_up_gradients(
    grad: Tensor, weight: Tensor, bits: Tensor, size: torch.Size, spec: OneBitProduct
) -> tuple[Tensor, Tensor] | None:
    """Return the gradients in the input's and in the weights' bits; ``None`` where it cannot pay.

    Args:
        grad: of the output, contiguous.
        weight: latent weights, contiguous.
        bits: of the input.
        size: the input's shape.
        spec: with the geometry of a convolution in one or two dimensions.
    """
    g = spec.geometry
    usable = grad.dtype == weight.dtype == torch.float32 and grad.device.type == "cpu"
    if g is None or len(size) > 4 or not usable:
        return None
    shape = _shape(grad, weight, size, g)
    if not _pays(shape):
        return None
    from ste_lightning.kernels.training import input_gradient as inputs
    from ste_lightning.kernels.training import weight_gradient as weights

    images, groups, channels, outputs = (int(v) for v in shape[:4])
    taps = weight[0, 0].numel()
    least = 1 + _LEAST_WORK // (channels * taps * outputs * grad[0, 0].numel())
    at, grads = shape.ctypes.data, grad.data_ptr()
    patterns = torch.empty(inputs.pattern_bytes(groups, channels, outputs, taps), dtype=torch.uint8)
    inputs.weight_patterns(at, weight.data_ptr(), patterns.data_ptr())
    in_x = torch.empty(size)
    share(
        lambda a, b: inputs.input_gradient(at, grads, patterns.data_ptr(), in_x.data_ptr(), a, b),
        images * groups,
        least,
    )
    low = -1.0 if spec.input_map == "sign" else 0.0

    def part(first: int, last: int) -> Tensor:
        out = torch.empty(weight.shape)
        to = out.data_ptr()
        weights.weight_gradient(at, grads, bits.data_ptr(), low, g.pad_value, to, first, last)
        return out

    return in_x, shared_sum(part, images, least)
