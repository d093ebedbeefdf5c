"""The quantized class for a float class: registered, or made for a subclass of such a class."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from ste_lightning.layers.linear import QuantRowLinear
from ste_lightning.layers.quantized import QUANTIZED, QuantizedLayer

__all__ = ["quantized_class", "why_not"]

# what the forward pass of torch's layers looks up: a subclass that redefines one computes otherwise
_COMPUTES = {
    "forward", "__call__", "_call_impl", "_conv_forward", "_output_padding", "weight", "bias",
    "__getattr__", "__getattribute__",
}  # fmt: skip
_MADE: dict[type[nn.Module], type[QuantizedLayer]] = {}


def quantized_class(cls: type[nn.Module]) -> type[QuantizedLayer] | None:
    """Return the class that quantizes layers of exactly the class ``cls``; ``None`` without one.

    A subclass of one of torch's layers that keeps torch's forward gets a subclass of both; so
    does the ``Conv1D`` of the transformers library, a linear layer with its inputs first.
    """
    if cls in QUANTIZED:
        return QUANTIZED[cls]
    base = _base(cls)
    if base is None or why_not(cls):
        return None
    if cls not in _MADE:
        quantized = QuantRowLinear if _is_row_linear(base) else QUANTIZED[base]
        body = {"float_class": cls, "__reduce_ex__": _reduce, "__module__": __name__}
        _MADE[cls] = type(f"Quant{cls.__name__}", (quantized, cls), body)
    return _MADE[cls]


def why_not(cls: type[nn.Module]) -> str:
    """Return why layers of ``cls`` cannot be quantized, ``""`` where they can."""
    base = _base(cls)
    if base is None:
        return "it has no quantized form"
    if issubclass(cls, LazyModuleMixin):
        return "its weights do not exist yet; run one batch first"
    if any(k.__name__ == "FSDPModule" for k in cls.__mro__):
        return "it is sharded already; quantize it before"
    if cls is NonDynamicallyQuantizableLinear:
        return "attention reads its weights past its forward"
    for between in cls.__mro__[: cls.__mro__.index(base)]:
        own = sorted(_COMPUTES & vars(between).keys())
        if own:
            return f"a subclass of {base.__name__} with a {own[0]} of its own"
    return ""


def _base(cls: type[nn.Module]) -> type[nn.Module] | None:
    return next((k for k in cls.__mro__ if k in QUANTIZED or _is_row_linear(k)), None)


def _is_row_linear(cls: type) -> bool:
    """Return whether this is transformers' Conv1D, known by its name: nothing is imported."""
    return (cls.__module__, cls.__qualname__) == ("transformers.pytorch_utils", "Conv1D")


def _reduce(layer: Any, protocol: Any) -> Any:
    """Pickle by the float class: this class exists in no module."""
    return _remake, (layer.float_class,), layer.__getstate__()


def _remake(cls: type[nn.Module]) -> Any:
    made = quantized_class(cls)
    assert made is not None
    return made.__new__(made)
