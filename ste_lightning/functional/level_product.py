"""Forward products of operands with learned steps, as sums of integers by compiled code.

The sums are exact, and those of the packed network that is made of the layer.
"""

from __future__ import annotations

import math

from torch import Tensor

from ste_lightning.functional.counted import counting_pays
from ste_lightning.functional.native_steps import Step
from ste_lightning.functional.one_bit_specification import ConvolutionGeometry
from ste_lightning.functional.planar_product import convolve_planar
from ste_lightning.kernels import Codes, Geometry, default_format, linear

__all__ = ["level_product"]


def level_product(
    x: Tensor,
    weight: Tensor,
    inputs: Step,
    weights: Step,
    bias: Tensor | None,
    geometry: ConvolutionGeometry | None,
) -> Tensor | None:
    """Return ``s_x s_W (round(clip(x / s_x)) * round(clip(W / s_W))) + bias``.

    Args:
        x, weight, bias, geometry: as of
            :func:`~ste_lightning.functional.learned_product.learned_product`.
        inputs, weights: their steps, which start at 0.

    Returns:
        The product in float32, or ``None`` where it does not pay, where bytes cannot hold the
        levels or 32 bits their sums, and where an operand is not a number.
    """
    groups = 1 if geometry is None else geometry.groups
    channels, outputs = math.prod(weight.shape[1:]), len(weight) // groups
    rows = x.numel() // max(x.shape[-1] if geometry is None else x.shape[1], 1)
    positions = rows if geometry is None else rows // math.prod(geometry.stride)
    if not counting_pays(positions, channels, outputs) or default_format() == "torch":
        return None
    from ste_lightning.kernels.latent_levels import codes_of_levels, prepare_levels

    codes = codes_of_levels(inputs.low, inputs.high)
    padded = geometry is not None and geometry.pad_value != 0  # with no multiple of the step
    if codes is None or padded or not _fits(codes, weights, channels):
        return None
    given = inputs.codes(x)
    if given is None:
        return None
    prepared = prepare_levels(
        *(weight, weights.step, (weights.low, weights.high), codes),
        scale=inputs.step * weights.step,
        shift=bias,
        groups=groups,
        pad_value=None if geometry is None else 0.0,
    )
    if prepared is None:
        return None
    if geometry is None:
        return linear(given.view(rows, channels), prepared).view(*x.shape[:-1], outputs)
    padding = tuple((p, p) for p in geometry.padding)
    where = Geometry(tuple(weight.shape[2:]), geometry.stride, padding, geometry.dilation)
    return convolve_planar(given, prepared, where)


def _fits(inputs: Codes, weights: Step, length: int) -> bool:
    """Return whether signed bytes hold the weights, and 32 bits twice every sum."""
    if not -128 <= weights.low <= 0 <= weights.high <= 127:
        return False
    largest = max(abs(inputs.offset), abs(inputs.offset + 2**inputs.bits - 1), 2**inputs.bits)
    most: float = 2 * length * largest * max(-weights.low, weights.high, 1)
    return most < 2**31
