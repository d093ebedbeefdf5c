"""Float model in, quantized model out, and back."""

from ste_lightning.convert.policy import RELU_CHOICES, Policy, Rule
from ste_lightning.convert.quantized_weights import quantized_weights
from ste_lightning.convert.report import LayerReport, Report
from ste_lightning.convert.swap import dequantize_, quantize_

__all__ = [
    "RELU_CHOICES",
    "LayerReport",
    "Policy",
    "Report",
    "Rule",
    "dequantize_",
    "quantize_",
    "quantized_weights",
]
