"""Gradients of convolutions by tile registers (AMX): those of stride 1 over two dimensions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ste_lightning.functional.products.channels_first import is_channels_last
from ste_lightning.functional.products.tile_products import (
    Operand,
    packed_integers,
    tiles_pay,
)
from ste_lightning.kernels.jit.threads import share, shared_sum

if TYPE_CHECKING:
    from ste_lightning.functional.products.specification import ConvolutionGeometry

__all__ = ["tiled_convolution_gradients"]

_GROUP = 32  # channels that are multiplied together
_LEAST_WORK = 1 << 27  # multiplications: fewer do not pay for compiling the code
_LEAST_USED = 0.5  # of what is multiplied: the rest is padding
_LEAST_IMAGES = 4  # worth a thread of their own


def _used(*counts: int) -> float:
    """Return how much of groups of channels is in use."""
    used = 1.0
    for count in counts:
        used *= count / (-(-count // _GROUP) * _GROUP)
    return used


def _fits(grad: Tensor, x: Tensor, weight: Tensor, g: ConvolutionGeometry) -> bool:
    tensors = (grad, x, weight)
    if weight.dim() != 4 or g.groups != 1 or g.stride != (1, 1):
        return False
    if any(t.dtype != torch.float32 or t.device.type != "cpu" for t in tensors):
        return False
    reach = [d * (k - 1) for d, k in zip(g.dilation, weight.shape[2:], strict=True)]
    if any(2 * p > r for p, r in zip(g.padding, reach, strict=True)):
        return False  # the output is larger than the input
    height, width = x.shape[2:]
    inside = height * width / ((height + g.padding[0]) * (width + g.padding[1]))
    rows = grad.numel() // len(weight)
    used = inside * _used(*weight.shape[:2])
    enough = used >= _LEAST_USED and rows * weight.numel() >= _LEAST_WORK
    return enough and tiles_pay(rows, weight)


def _shape(grad: Tensor, x: Tensor, weight: Tensor, g: ConvolutionGeometry) -> np.ndarray:
    """Return the convolution as compiled code reads it."""
    images, channels, *size = x.shape
    numbers = [images, channels, len(weight), *size, *grad.shape[2:], *weight.shape[2:]]
    return np.array([*numbers, *g.padding, *g.dilation, int(is_channels_last(x))], np.int64)


def _like(grad: Tensor, x: Tensor) -> Tensor:
    """Return the gradient in the order of memory that the input has."""
    last = is_channels_last(x)
    return grad.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


def tiled_convolution_gradients(
    grad: Tensor,
    x: Operand,
    weight: Operand,
    geometry: ConvolutionGeometry,
    wanted: tuple[bool, bool],
) -> tuple[Tensor | None, Tensor | None] | None:
    """Return the gradients of a convolution in its quantized input and weights.

    Args:
        grad: dL/dy, (images, outputs, rows, columns).
        x: (images, channels, height, width), contiguous or channels last, with one step.
        weight: (outputs, channels, kernel rows, kernel columns), with one step or one per output.
        geometry: of stride 1.
        wanted: which of the two.

    Returns:
        ``None`` where that is not faster by tile registers, or cannot be done: operands that are
        no integers of eight bits times steps.
    """
    one_step = x.steps is not None and x.steps.numel() == 1
    if not one_step or weight.steps is None or not _fits(grad, x.values, weight.values, geometry):
        return None
    if not (x.values.is_contiguous() or is_channels_last(x.values)):
        return None
    shape, grad = _shape(grad, x.values, weight.values, geometry), _like(grad, x.values)
    in_x = in_weight = None
    if wanted[1]:
        in_weight = _weight_gradient(grad, x, weight.values, geometry.pad_value, shape)
        if in_weight is None:
            return None
    if wanted[0]:
        in_x = _input_gradient(grad, x.values, weight, shape)
        if in_x is None:
            return None
    return in_x, in_weight


def _input_gradient(grad: Tensor, x: Tensor, weight: Operand, shape: np.ndarray) -> Tensor | None:
    from ste_lightning.kernels.training import convolution_tiles

    assert weight.steps is not None
    outputs, channels = weight.values.shape[:2]
    wide = -(-outputs // _GROUP) * _GROUP
    by_tap = torch.zeros(*weight.values.shape[2:], wide, channels)
    by_tap[:, :, :outputs] = weight.values.permute(2, 3, 0, 1)
    steps = torch.ones(wide)
    steps[:outputs] = weight.steps
    terms = by_tap.view(-1, channels)
    repeated = steps.repeat(len(terms) // wide)
    held = packed_integers(Operand(terms, repeated), by_rows=False, is_left=True)
    if held is None:
        return None
    out = torch.empty_like(x)
    given = shape.ctypes.data, grad.data_ptr(), steps.data_ptr(), held.tensor.data_ptr()
    to = out.data_ptr()
    share(lambda a, b: convolution_tiles.input_gradient(*given, to, a, b), len(x), _LEAST_IMAGES)
    return out


def _weight_gradient(
    grad: Tensor, x: Operand, weight: Tensor, pad: float, shape: np.ndarray
) -> Tensor | None:
    from ste_lightning.kernels.training import convolution_tiles

    assert x.steps is not None
    given = shape.ctypes.data, grad.data_ptr(), x.values.data_ptr(), float(x.steps), pad
    missing = []

    def part(first: int, last: int) -> Tensor:
        out = torch.empty(weight.shape)
        missing.append(convolution_tiles.weight_gradient(*given, out.data_ptr(), first, last))
        return out

    total = shared_sum(part, len(x.values), _LEAST_IMAGES)
    if any(missing):
        return None
    return total if weight.is_contiguous() else torch.empty_like(weight).copy_(total)
