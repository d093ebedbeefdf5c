"""What a quantized layer is, and how its state dict tells: checkpoints of another one are refused.

The specification travels in the metadata that torch keeps beside every state dict, under no key
of its own, so that float models load the tensors as before. ``dict(state_dict)`` leaves it behind.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ste_lightning.errors import ConfigurationError
from ste_lightning.quantizers import differences

if TYPE_CHECKING:
    from ste_lightning.layers.quantized import QuantizedLayer

__all__ = ["METADATA", "refuse_another", "start_from_float", "write_identity"]

METADATA = "quantization"


def write_identity(layer: QuantizedLayer, destination: Any, prefix: str) -> None:
    """Put the layer's specification beside the state dict ``destination``."""
    metadata = getattr(destination, "_metadata", {}).get(prefix[:-1])
    if metadata is not None:
        metadata[METADATA] = layer.specification()


def refuse_another(layer: QuantizedLayer, metadata: Mapping[str, Any], prefix: str) -> None:
    """Raise if a state dict is of a layer with other quantizers.

    Raises:
        ConfigurationError: with what differs.
    """
    saved = metadata.get(METADATA)
    if saved is None:
        return
    found = differences(saved, layer.specification())
    if found:
        raise ConfigurationError(
            f"the state dict is of another quantization: layer {prefix[:-1]!r}: "
            f"{'; '.join(found)}. Quantize the model by the policy that was trained, or load "
            "dict(state_dict), the tensors alone."
        )


@torch.no_grad()
def start_from_float(layer: QuantizedLayer, state: dict[str, Any], prefix: str) -> None:
    """Let a float layer's state start the quantizers' learned values; add them to ``state``.

    Scales of weights start from the weights that were just loaded, those of inputs from the next
    training batch. A warning names the keys.
    """
    latent = layer._parameters.get(layer.latent_key)
    if latent is None or latent.is_meta or prefix + layer.latent_key not in state:
        return  # parametrized: its weight is not known yet
    for name in ("weight_quantizer", "input_quantizer", "score_quantizer"):
        quantizer = layer._modules.get(name)
        own = list(quantizer.state_dict()) if quantizer is not None else []
        if not own or any(f"{prefix}{name}.{key}" in state for key in own):
            continue
        values = _started(quantizer, latent if name == "weight_quantizer" else None)
        if values is None:
            continue
        state.update({f"{prefix}{name}.{key}": value for key, value in values.items()})
        start = "the loaded weights" if name == "weight_quantizer" else "the next training batch"
        warnings.warn(
            f"the state dict of layer {prefix[:-1]!r} is of a float layer: "
            f"{', '.join(f'{name}.{key}' for key in own)} start from {start}.",
            stacklevel=2,
        )


def _started(quantizer: nn.Module | None, weight: nn.Parameter | None) -> Any:
    """Return the first values of a quantizer like this one; ``None`` where it cannot start."""
    fresh: Any = copy.deepcopy(quantizer)
    if not hasattr(fresh, "reset_parameters"):
        return None
    if any(t.is_meta for t in [*fresh.parameters(), *fresh.buffers()]):
        fresh.to_empty(device="cpu" if weight is None else weight.device)
    fresh.reset_parameters()
    if weight is not None and hasattr(fresh, "initialize"):
        fresh.initialize(weight.detach())
    return fresh.state_dict()
