"""Look at, save or evaluate a model with the weights that its forward pass really uses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.utils import parametrize

from ste_lightning.errors import ConfigurationError
from ste_lightning.layers import QuantizedLayer

__all__ = ["quantized_weights"]


@contextmanager
def quantized_weights(model: nn.Module) -> Iterator[nn.Module]:
    """Let ``layer.weight`` and ``model.state_dict()`` hold the quantized weights meanwhile.

    Outputs stay the same: weights are not quantized twice. Afterwards the latent weights, the
    very parameter objects that optimizers and DistributedDataParallel hold, are back, also after
    an exception. Contexts nest; no communication takes place, so that ranks need not enter
    together. Do not train inside: the quantized weights are copies without gradients.

    Args:
        model: a module with quantized layers, wrapped or not.

    Yields:
        ``model``.

    Raises:
        ConfigurationError: for a quantized layer whose weight is parametrized or pruned, as its
            weight is computed anew in each forward pass.
    """
    exposed: list[tuple[QuantizedLayer, str, nn.Parameter]] = []
    try:
        for name, layer in model.named_modules():
            if not isinstance(layer, QuantizedLayer) or layer.weight_quantizer is None:
                continue
            if not layer.weight_quantization:
                continue  # exposed by an outer context
            key = layer.latent_key
            latent = layer._parameters.get(key)
            if latent is None or parametrize.is_parametrized(layer, key):
                raise ConfigurationError(
                    f"the weight of {name!r} is computed by a parametrization or a pruning mask: "
                    "read layer.quantized_weight(), or make them permanent first "
                    "(remove_parametrizations, prune.remove)."
                )
            with torch.no_grad():
                values = layer.quantized_weight().detach().clone()
            exposed.append((layer, key, latent))
            layer._parameters[key] = nn.Parameter(values, requires_grad=False)
            layer.weight_quantization = False
        yield model
    finally:
        for layer, key, latent in exposed:
            layer._parameters[key] = latent
            del layer.weight_quantization
