"""Products of bits with bits by xor and popcount, where counting is faster than multiplying."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import torch
from torch import Tensor

from ste_lightning.functional.products.channels_first import convolve_planar, is_channels_last
from ste_lightning.functional.products.specification import OneBitProduct
from ste_lightning.kernels import (
    SIGNS,
    STEPS,
    Geometry,
    convolve,
    default_format,
    linear,
)

__all__ = ["counted_product", "counting_pays", "counts"]

# Laying out the weights costs about as much as multiplying 64 rows by them; below this many
# multiplications the calls themselves cost more than they save.
_LEAST_ROWS = 48
_LEAST_WORK = 1 << 23
_LEAST_SHARED = 1 << 19  # weights that a second thread helps to lay out
_LEAST_SHARED_WORK = 1 << 26  # multiplications that it helps with


def counting_pays(rows: int, channels: int, outputs: int) -> bool:
    """Return whether a product (rows x channels) (channels x outputs) is faster counted."""
    return rows >= _LEAST_ROWS and rows * channels * outputs >= _LEAST_WORK


def counts(x: Tensor, weight: Tensor, spec: OneBitProduct) -> bool:
    """Return whether :func:`counted_product` can count this product, and it pays."""
    if spec.input_map is None or x.dtype != torch.float32 or x.device.type != "cpu":
        return False
    g, outputs = spec.geometry, weight.shape[0]
    channels = weight.numel() // max(outputs, 1)
    rows = x.numel() // max(x.shape[-1 if g is None else 1], 1)
    if g is not None:
        rows //= math.prod(g.stride)
        outputs //= g.groups
    return counting_pays(rows, channels, outputs)


def counted_product(
    x: Tensor,
    weight: Tensor,
    scale: Tensor | None,
    bias: Tensor | None,
    spec: OneBitProduct,
    dtype: torch.dtype = torch.float32,
) -> Tensor | None:
    """Return the product by counting, or ``None`` where it cannot or does not pay.

    Args: as of :func:`~ste_lightning.functional.products.binary.one_bit_product`; ``dtype`` of a
        convolution's result.
    """
    if not counts(x, weight, spec):
        return None
    format, g = default_format(), spec.geometry
    if g is None and spec.input_map == "sign" and scale is None and _one_call_does(x, weight, bias):
        return _signs_product()(x, weight, bias, format)
    from ste_lightning.kernels.pack.sign_weights import prepare_signs

    inputs = SIGNS if spec.input_map == "sign" else STEPS
    x = x.detach()
    if g is None:
        prepared = prepare_signs(weight, inputs, format=format)
        y = linear(x.reshape(-1, x.shape[-1]), prepared).view(*x.shape[:-1], -1)
    else:
        prepared = prepare_signs(
            weight, inputs, groups=g.groups, pad_value=g.pad_value, format=format
        )
        padding = tuple((p, p) for p in g.padding)
        geometry = Geometry(tuple(weight.shape[2:]), g.stride, padding, g.dilation)
        if is_channels_last(x):
            y = convolve(x, prepared, geometry).to(dtype)
        else:
            y = convolve_planar(x, prepared, geometry, dtype)
    shape = (-1, *[1] * (0 if g is None else y.dim() - 2))
    if scale is not None:
        y.mul_(scale.reshape(shape) if scale.numel() > 1 else scale)
    return y if bias is None else y.add_(bias.detach().view(shape))


@functools.cache
def _signs_product() -> Callable[[Tensor, Tensor, Tensor | None, str], Tensor]:
    from ste_lightning.kernels.gemm.sign_linear import multiply_signs

    return multiply_signs


def _one_call_does(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Return whether compiled code takes rows as they are, on one thread."""
    if x.dim() != 2 or not (x.is_contiguous() and weight.is_contiguous()):
        return False
    size = weight.numel()
    alone = size <= _LEAST_SHARED and x.shape[0] * size <= _LEAST_SHARED_WORK
    return (alone or torch.get_num_threads() == 1) and (bias is None or bias.is_contiguous())
