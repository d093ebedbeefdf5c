"""Which packed layers have C."""

from __future__ import annotations

import math
from typing import Any

from ste_lightning.deploy.export.c.packed_weights import STORED_BITS
from ste_lightning.deploy.export.c.program import refused
from ste_lightning.deploy.layers.input_quantizers import FloatInput, TokenInput
from ste_lightning.deploy.layers.linear_and_conv import PackedConv, PackedLinear

__all__ = ["require_layer"]


def require_layer(name: str, layer: Any) -> None:
    """Refuse what has no C.

    Raises:
        ConfigurationError: with the layer's name and the reason.
    """
    at = f"(layer {name!r})"
    if type(layer) not in (PackedConv, PackedLinear):
        raise refused(f"{type(layer).__name__} {at}")
    if isinstance(layer, PackedConv):
        if len(layer.geometry.kernel) > 2:
            raise refused(f"three-dimensional convolution {at}")
        if layer.padding_mode != "zeros":
            raise refused(f"padding_mode {layer.padding_mode!r} {at}")
        if isinstance(layer.input, TokenInput):
            raise refused(f"convolution of tokens {at}")
    if layer.scales > 1:
        raise refused(f"several scales per output {at}")
    if isinstance(layer.input, FloatInput):
        return
    if not float(layer.pad_level() or 0.0).is_integer():
        raise refused(f"padding with a fraction of a level {at}")
    if abs(layer.pad_level() or 0.0) >= 1 << 15:
        raise refused(f"padding with so large a level {at}")
    codes, weights = layer.input.codes, layer.weight_codes
    levels = [abs(codes.offset), abs(codes.offset + codes.step * (2**codes.bits - 1))]
    largest = weights.step * 2 ** STORED_BITS[weights.bits] + abs(weights.offset)
    if math.prod(layer.shape[1:]) * max(*levels, abs(layer.pad_level() or 0)) * largest >= 1 << 31:
        raise refused(f"sum of more than 31 bits {at}")
