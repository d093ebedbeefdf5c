"""Quantizer modules, built from a name, a mapping or a module by :func:`build`."""

from ste_lightning.quantizers.binary import Sign, Step
from ste_lightning.quantizers.building import QuantizerSpec, build
from ste_lightning.quantizers.calibrated import Calibrated, Steps
from ste_lightning.quantizers.dorefa import DoReFa
from ste_lightning.quantizers.dynamic import Token
from ste_lightning.quantizers.libra import LibraPB
from ste_lightning.quantizers.lsq import LSQ, LSQPlus
from ste_lightning.quantizers.n2uq import N2UQ, N2UQWeights
from ste_lightning.quantizers.pact import PACT
from ste_lightning.quantizers.power_of_two import APoT, PowerOfTwo
from ste_lightning.quantizers.progressive import LSBQ, Progressive
from ste_lightning.quantizers.quantizer import FLOAT_BITS, Operand, Quantizer, bits_of, describe
from ste_lightning.quantizers.registry import quantizer_class, quantizer_names, register_quantizer
from ste_lightning.quantizers.scaling import SCALES, mean_magnitude
from ste_lightning.quantizers.specification import differences, specification, summarize
from ste_lightning.quantizers.stochastic import StochasticSign, StochasticUniform
from ste_lightning.quantizers.ternary import TWN, BitNetTernary, Ternary
from ste_lightning.quantizers.uniform import Uniform

__all__ = [
    "FLOAT_BITS",
    "LSBQ",
    "LSQ",
    "N2UQ",
    "PACT",
    "SCALES",
    "TWN",
    "APoT",
    "BitNetTernary",
    "Calibrated",
    "DoReFa",
    "LSQPlus",
    "LibraPB",
    "N2UQWeights",
    "Operand",
    "PowerOfTwo",
    "Progressive",
    "Quantizer",
    "QuantizerSpec",
    "Sign",
    "Step",
    "Steps",
    "StochasticSign",
    "StochasticUniform",
    "Ternary",
    "Token",
    "Uniform",
    "bits_of",
    "build",
    "describe",
    "differences",
    "mean_magnitude",
    "quantizer_class",
    "quantizer_names",
    "register_quantizer",
    "specification",
    "summarize",
]
