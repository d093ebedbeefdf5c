"""Which layers with uniform grids keep codes of their input for the backward pass."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ste_lightning import functional as SF
from ste_lightning.functional.products.specification import ConvolutionGeometry, OneBitProduct
from ste_lightning.functional.products.uniform import uniform_product
from ste_lightning.functional.rules import Identity
from ste_lightning.functional.saved.uniform_codes import InputGrid, WeightGrid
from ste_lightning.kernels import default_format
from ste_lightning.layers.one_bit import is_plain
from ste_lightning.quantizers import Uniform

__all__ = ["uniform_layer_product"]


def _is_grid(quantizer: nn.Module | None) -> bool:
    """Return whether the quantizer is a uniform grid with the identity rule, and no more."""
    if type(quantizer) is not Uniform or not is_plain(quantizer):
        return False
    fixed = "bits" not in quantizer._buffers
    return fixed and not quantizer.binary and type(quantizer.rule) is Identity


def uniform_layer_product(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    weights: nn.Module | None,
    inputs: nn.Module | None,
    geometry: ConvolutionGeometry | None,
) -> Tensor | None:
    """Return the product of operands quantized by these quantizers, or ``None``.

    Args:
        x, weight, bias, geometry: as of
            :func:`~ste_lightning.functional.products.uniform.uniform_product`.
        weights, inputs: the layer's quantizers.
    """
    if not _is_grid(weights) or (inputs is not None and not _is_grid(inputs)):
        return None
    on_cpu = x.is_cpu and x.dtype is torch.float32 and weight.is_contiguous()
    if not on_cpu or default_format() == "torch" or 0 in (x.numel(), weight.numel()):
        return None
    assert isinstance(weights, Uniform)
    if weights.channel_dim != 0 and weights.granularity != "tensor":
        return None  # its parts are not one after the other in memory
    steps, zeros = weights.scale_and_zero(weights.grouped(weight.detach()))
    grids = WeightGrid(
        steps.reshape(-1),
        zeros.reshape(-1) if isinstance(zeros, Tensor) else torch.zeros(steps.numel()),
        *_ends(weights),
        weights.symmetric,
        weights.symmetric and weights.range == "minmax",
    )
    grid, finite = None, math.isfinite(steps.sum())
    if isinstance(inputs, Uniform):
        step, zero = (float(v) for v in inputs.scale_and_zero(x.detach()))
        finite = finite and math.isfinite(step)
        grid = InputGrid(step, zero, *_ends(inputs))
    y = uniform_product(x, weight, bias, grid, grids, geometry) if finite else None
    if y is not None:
        return y
    # the same grids, since the running range has seen this batch
    product = OneBitProduct(None, None, Identity(), geometry)
    if grid is not None:
        of_x = torch.tensor(grid.step), grid.zero, grid.low, grid.high
        x = SF.fake_quantize(x, *of_x, Identity())
    return product.multiply(x, weights(weight), bias)


def _ends(quantizer: Uniform) -> tuple[float, float]:
    low, high = quantizer.ends()
    return float(low), float(high)
