"""Drop-in quantized layers: torch layers with a weight and an input quantizer."""

from ste_lightning.layers.activations import RPReLU, RSign
from ste_lightning.layers.attention import QuantMultiheadAttention
from ste_lightning.layers.convolution import QuantConv1d, QuantConv2d, QuantConv3d
from ste_lightning.layers.embedding import QuantEmbedding
from ste_lightning.layers.linear import QuantLinear
from ste_lightning.layers.presets import (
    BinaryConv1d,
    BinaryConv2d,
    BinaryConv3d,
    BinaryLinear,
    BitLinear,
    TernaryLinear,
)
from ste_lightning.layers.quantized import QUANTIZED, QuantizedLayer
from ste_lightning.layers.transposed import QuantConvTranspose1d, QuantConvTranspose2d
from ste_lightning.layers.twins import quantized_class, why_not

__all__ = [
    "QUANTIZED",
    "BinaryConv1d",
    "BinaryConv2d",
    "BinaryConv3d",
    "BinaryLinear",
    "BitLinear",
    "QuantConv1d",
    "QuantConv2d",
    "QuantConv3d",
    "QuantConvTranspose1d",
    "QuantConvTranspose2d",
    "QuantEmbedding",
    "QuantLinear",
    "QuantMultiheadAttention",
    "QuantizedLayer",
    "RPReLU",
    "RSign",
    "TernaryLinear",
    "quantized_class",
    "why_not",
]
