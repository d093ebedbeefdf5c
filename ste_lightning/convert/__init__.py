"""Float model in, quantized model out, and back."""

from ste_lightning.convert.batch_norm import reestimate_batch_norm
from ste_lightning.convert.calibration import Calibration
from ste_lightning.convert.lost_zeros import lost_zeros
from ste_lightning.convert.policy import RELU_CHOICES, Policy, Rule
from ste_lightning.convert.quantized_weights import quantized_weights
from ste_lightning.convert.report import LayerReport, Report
from ste_lightning.convert.summary import summary
from ste_lightning.convert.summary_table import LayerSummary, Summary
from ste_lightning.convert.swap import dequantize_, quantize_
from ste_lightning.convert.watch import Finding, QuantizerWatch, dead_weights

__all__ = [
    "RELU_CHOICES",
    "Calibration",
    "Finding",
    "LayerReport",
    "LayerSummary",
    "Policy",
    "QuantizerWatch",
    "Report",
    "Rule",
    "Summary",
    "dead_weights",
    "dequantize_",
    "lost_zeros",
    "quantize_",
    "quantized_weights",
    "reestimate_batch_norm",
    "summary",
]
