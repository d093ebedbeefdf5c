"""Products with weights of one to eight bits: packing, micro-kernels, and plain torch.

What is here depends on torch and NumPy only; numba is imported at the first product, and where
it is missing the same functions compute with torch operators, with equal results.
"""

from ste_lightning.kernels.dispatch import best_format, default_format
from ste_lightning.kernels.layout.geometry import Geometry
from ste_lightning.kernels.layout.integer_codes import SIGNS, STEPS, Codes
from ste_lightning.kernels.layout.packed_weights import Prepared, prepare
from ste_lightning.kernels.pack.quantize import levels
from ste_lightning.kernels.products import convolve, linear, small_linear

__all__ = [
    "SIGNS",
    "STEPS",
    "Codes",
    "Geometry",
    "Prepared",
    "best_format",
    "convolve",
    "default_format",
    "levels",
    "linear",
    "prepare",
    "small_linear",
]
