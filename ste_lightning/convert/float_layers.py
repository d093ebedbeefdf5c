"""What keeps its float weights whatever the policy says, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from ste_lightning.convert.report import LayerReport
from ste_lightning.convert.structure import clean_name, plain_class
from ste_lightning.layers import why_not

__all__ = ["float_layers"]

_NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.LocalResponseNorm)


def float_layers(model: nn.Module, layers: Mapping[str, nn.Module]) -> Iterator[LayerReport]:
    """Yield a row for every module with weights of its own that is not quantizable.

    Weights are parameters with two axes or more: recurrent layers, tables, subclasses with a
    forward of their own, parameters that a module multiplies with itself. Norms, biases and
    thresholds are not named.

    Args:
        model: the model.
        layers: its quantizable layers by name; what belongs to them is not named.
    """
    inside = {part for layer in layers.values() for part in layer.modules()}
    for name, module in model.named_modules():
        if module in inside or isinstance(module, _NORMS):
            continue
        weights = [key for key, p in module._parameters.items() if _is_weight(p)]
        if weights:
            cls = plain_class(module)
            reason = f"{cls.__name__}: {why_not(cls)}"
            if not isinstance(module, (nn.RNNBase, nn.RNNCellBase)) and weights != ["weight"]:
                reason = f"{reason} ({', '.join(weights)})"
            yield LayerReport(clean_name(name), cls.__name__, "float", "float", reason)


def _is_weight(parameter: nn.Parameter | None) -> bool:
    if parameter is None:
        return False
    return nn.parameter.is_lazy(parameter) or parameter.dim() > 1
