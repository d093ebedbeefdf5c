"""Which layers with learned steps multiply without keeping quantized operands."""

from __future__ import annotations

from torch import Tensor, nn

from ste_lightning import functional as SF
from ste_lightning.functional.products.lsq import learned_product
from ste_lightning.functional.products.specification import ConvolutionGeometry
from ste_lightning.functional.rules import Identity
from ste_lightning.layers.one_bit import is_plain
from ste_lightning.quantizers import LSQ

__all__ = ["learned_layer_product"]


def _step(quantizer: nn.Module | None, x: Tensor) -> Tensor | None:
    """Return the quantizer's step as ``quantize`` uses it; ``None`` for another computation."""
    if type(quantizer) is not LSQ or not is_plain(quantizer):
        return None
    plain = quantizer._ready and not quantizer.binary and type(quantizer.rule) is Identity
    return SF.scale_gradient(quantizer.scale, quantizer._gradient_factor(x)) if plain else None


def learned_layer_product(
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
            :func:`~ste_lightning.functional.products.lsq.learned_product`.
        weights, inputs: the layer's quantizers.
    """
    weight_scale = _step(weights, weight)
    input_scale = None if inputs is None else _step(inputs, x)
    if weight_scale is None or (inputs is not None and input_scale is None):
        return None
    assert isinstance(weights, LSQ)
    levels = (float(inputs.low), float(inputs.high)) if isinstance(inputs, LSQ) else (0.0, 0.0)
    weight_levels = float(weights.low), float(weights.high)
    return learned_product(
        x, weight, input_scale, weight_scale, bias, levels, weight_levels, geometry
    )
