"""Forward products of operands on uniform grids, as sums of integers by compiled code.

The sums are exact, and those of the packed network that is made of the layer.
"""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor

from ste_lightning.functional.products.channels_first import convolve_planar
from ste_lightning.functional.products.operand import Integers, Levels
from ste_lightning.functional.products.popcount_forward import counting_pays
from ste_lightning.functional.products.specification import ConvolutionGeometry
from ste_lightning.kernels import Codes, Geometry, linear

__all__ = ["level_product", "levels_pay"]


def levels_pay(x: Tensor, weight: Tensor, geometry: ConvolutionGeometry | None) -> bool:
    """Return whether :func:`level_product` is faster than a product of floats."""
    groups = 1 if geometry is None else geometry.groups
    rows = x.numel() // max(x.shape[-1] if geometry is None else x.shape[1], 1)
    rows //= 1 if geometry is None else math.prod(geometry.stride)
    return counting_pays(rows, math.prod(weight.shape[1:]), len(weight) // groups)


def level_product(
    given: Tensor,
    inputs: Levels,
    weights: Integers,
    bias: Tensor | None,
    geometry: ConvolutionGeometry | None,
) -> Tensor | None:
    """Return ``X * q(W) + bias``.

    Args:
        given: uint8, the codes of X; (*, in), or (N, C, *size) for a convolution.
        inputs: what the codes stand for, with one step.
        weights: q(W), its values in float32 on the CPU.
        bias: per output, or ``None``.
        geometry: of a convolution; ``None`` for a linear layer.

    Returns:
        The product in float32, or ``None`` where bytes cannot hold the levels or 32 bits their
        sums, and where a weight is not a number.
    """
    weight, steps, low, high = weights
    codes = _codes(inputs.low, inputs.high, inputs.zero)
    assert isinstance(inputs.step, float)
    padded = geometry is not None and geometry.pad_value != 0  # with no multiple of the step
    if codes is None or padded or not _fits(codes, low, high, math.prod(weight.shape[1:])):
        return None
    from ste_lightning.kernels.pack.level_weights import prepare_levels

    prepared = prepare_levels(
        *(weight, steps, (low, high), codes),
        scale=steps * np.float32(inputs.step),
        shift=bias,
        groups=1 if geometry is None else geometry.groups,
        pad_value=None if geometry is None else 0.0,
    )
    if prepared is None:
        return None
    if geometry is None:
        rows = given.view(-1, given.shape[-1])
        return linear(rows, prepared).view(*given.shape[:-1], len(weight))
    padding = tuple((p, p) for p in geometry.padding)
    where = Geometry(tuple(weight.shape[2:]), geometry.stride, padding, geometry.dilation)
    return convolve_planar(given, prepared, where)


def _codes(low: float, high: float, zero: float = 0.0) -> Codes | None:
    """Return the codes of the integers ``low - zero`` to ``high - zero``.

    ``None`` if they are no integers, or more than a byte has values.
    """
    integers = low == int(low) and high == int(high) and zero == int(zero)
    count = int(high - low) + 1
    if not integers or not 2 <= count <= 256:
        return None
    return Codes((count - 1).bit_length(), 1, int(low - zero))


def _fits(inputs: Codes, low: float, high: float, length: int) -> bool:
    """Return whether signed bytes hold the weights, and 32 bits twice every sum."""
    if _codes(low, high) is None or not -128 <= low <= 0 <= high <= 127:
        return False
    largest = max(abs(inputs.offset), abs(inputs.offset + 2**inputs.bits - 1), 2**inputs.bits)
    most: float = 2 * length * largest * max(-low, high, 1)
    return most < 2**31
