"""Quantization-aware training with straight-through estimators for PyTorch Lightning.

``import ste_lightning as ste`` offers the main names, each imported when it is first used:
``ste.QuantizationAwareTraining``, ``ste.quantize_``, ``ste.pack``, ``ste.simulate`` and so on, and
the packages themselves (``ste.layers``, ``ste.deploy``).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

if TYPE_CHECKING:
    from ste_lightning import callbacks as callbacks
    from ste_lightning import convert as convert
    from ste_lightning import data as data
    from ste_lightning import deploy as deploy
    from ste_lightning import functional as functional
    from ste_lightning import layers as layers
    from ste_lightning import metrics as metrics
    from ste_lightning import models as models
    from ste_lightning import optim as optim
    from ste_lightning import quantizers as quantizers
    from ste_lightning import theory as theory
    from ste_lightning.callbacks import BatchNormReestimation as BatchNormReestimation
    from ste_lightning.callbacks import Distillation as Distillation
    from ste_lightning.callbacks import LatentClipping as LatentClipping
    from ste_lightning.callbacks import OscillationDampening as OscillationDampening
    from ste_lightning.callbacks import OscillationFreezing as OscillationFreezing
    from ste_lightning.callbacks import QuantizationAwareTraining as QuantizationAwareTraining
    from ste_lightning.callbacks import QuantizationMonitor as QuantizationMonitor
    from ste_lightning.callbacks import RecurrenceMonitor as RecurrenceMonitor
    from ste_lightning.callbacks import SignAveraging as SignAveraging
    from ste_lightning.convert import dequantize_ as dequantize_
    from ste_lightning.convert import quantize_ as quantize_
    from ste_lightning.convert.quantized_weights import quantized_weights as quantized_weights
    from ste_lightning.convert.summary import summary as summary
    from ste_lightning.data import Digits as Digits
    from ste_lightning.data import TeacherStudent as TeacherStudent
    from ste_lightning.deploy import PackedNetwork as PackedNetwork
    from ste_lightning.deploy import load as load
    from ste_lightning.deploy import save as save
    from ste_lightning.deploy.pack import pack as pack
    from ste_lightning.functional import register as register
    from ste_lightning.functional import sign as sign
    from ste_lightning.functional import step as step
    from ste_lightning.functional import surrogate as surrogate
    from ste_lightning.functional import surrogate_names as surrogate_names
    from ste_lightning.functional.schedules import schedule_names as schedule_names
    from ste_lightning.layers import QuantConv2d as QuantConv2d
    from ste_lightning.layers import QuantLinear as QuantLinear
    from ste_lightning.models import BinaryTwoLayer as BinaryTwoLayer
    from ste_lightning.models import Classifier as Classifier
    from ste_lightning.models import LanguageModel as LanguageModel
    from ste_lightning.quantizers import build as build
    from ste_lightning.quantizers import quantizer_names as quantizer_names
    from ste_lightning.quantizers import register_quantizer as register_quantizer
    from ste_lightning.running.recipes import recipe_names as recipe_names
    from ste_lightning.theory import required_samples as required_samples
    from ste_lightning.theory.simulate import simulate as simulate

_OFFERED = {
    "callbacks": (
        "BatchNormReestimation",
        "Distillation",
        "LatentClipping",
        "OscillationDampening",
        "OscillationFreezing",
        "QuantizationAwareTraining",
        "QuantizationMonitor",
        "RecurrenceMonitor",
        "SignAveraging",
    ),
    "convert": ("dequantize_", "quantize_"),
    "convert.quantized_weights": ("quantized_weights",),
    "convert.summary": ("summary",),
    "data": ("Digits", "TeacherStudent"),
    "deploy": ("PackedNetwork", "load", "save"),
    "deploy.pack": ("pack",),
    "functional": ("register", "sign", "step", "surrogate", "surrogate_names"),
    "functional.schedules": ("schedule_names",),
    "layers": ("QuantConv2d", "QuantLinear"),
    "models": ("BinaryTwoLayer", "Classifier", "LanguageModel"),
    "quantizers": ("build", "quantizer_names", "register_quantizer"),
    "running.recipes": ("recipe_names",),
    "theory": ("required_samples",),
    "theory.simulate": ("simulate",),
}
_MODULES = {name: module for module, names in _OFFERED.items() for name in names}
_PACKAGES = ("callbacks", "convert", "data", "deploy", "functional", "layers", "metrics", "models",
             "optim", "quantizers", "theory")  # fmt: skip

__all__ = [
    "__version__",
    *sorted(_MODULES),
]


if not TYPE_CHECKING:  # type checkers see the imports above, and find a name that is wrong

    def __getattr__(name: str) -> Any:
        """Import what is asked for, and keep it."""
        if name in _PACKAGES:
            return importlib.import_module(f"ste_lightning.{name}")
        if name not in _MODULES:
            raise AttributeError(f"module 'ste_lightning' has no attribute {name!r}")
        found = getattr(importlib.import_module(f"ste_lightning.{_MODULES[name]}"), name)
        globals()[name] = found
        return found


def __dir__() -> list[str]:
    """Return what completion offers."""
    public = (name for name in globals() if name.startswith("__"))
    return sorted({*public, *_MODULES, *_PACKAGES})
