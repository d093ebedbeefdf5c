"""Optimizers and step-size control made for quantized weights."""

from ste_lightning.optim.bop import Bop, SecondOrderBop
from ste_lightning.optim.chained import Chained
from ste_lightning.optim.param_groups import quantizer_param_groups
from ste_lightning.optim.transition_rate import TransitionRate

__all__ = [
    "Bop",
    "Chained",
    "SecondOrderBop",
    "TransitionRate",
    "quantizer_param_groups",
]
