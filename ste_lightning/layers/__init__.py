"""Drop-in quantized layers: torch layers with a weight and an input quantizer."""

from ste_lightning.layers.convolution import QuantConv1d, QuantConv2d, QuantConv3d
from ste_lightning.layers.linear import QuantLinear
from ste_lightning.layers.quantized import QuantizedLayer

__all__ = ["QuantConv1d", "QuantConv2d", "QuantConv3d", "QuantLinear", "QuantizedLayer"]
