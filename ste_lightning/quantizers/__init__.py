"""Quantizer modules, built from a name, a mapping or a module by :func:`build`."""

from ste_lightning.quantizers.binary import Sign, Step
from ste_lightning.quantizers.quantizer import (
    Operand,
    Quantizer,
    QuantizerSpec,
    build,
    describe,
    quantizer_class,
    quantizer_names,
    register_quantizer,
)
from ste_lightning.quantizers.scaling import SCALES, mean_magnitude

__all__ = [
    "SCALES",
    "Operand",
    "Quantizer",
    "QuantizerSpec",
    "Sign",
    "Step",
    "build",
    "describe",
    "mean_magnitude",
    "quantizer_class",
    "quantizer_names",
    "register_quantizer",
]
