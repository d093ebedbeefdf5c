"""``save_pretrained`` and ``from_pretrained`` of the transformers library keep quantizers.

:func:`~ste_lightning.convert.quantize_` writes what the layers are into the config of such a model.
Importing this module, which needs the transformers library, registers the method
``ste_lightning`` there, so that ``from_pretrained`` makes the quantized model again, with its
ranges and scales.
"""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers.quantizers import HfQuantizer, register_quantization_config, register_quantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from ste_lightning.convert.structure import quantizable_layers
from ste_lightning.convert.swap import quantize_
from ste_lightning.layers import QuantizedLayer
from ste_lightning.quantizers import Quantizer

__all__ = ["remember"]

METHOD = "ste_lightning"


def remember(model: nn.Module) -> None:
    """Write the specifications of the quantized layers into ``model.config``; none, if none are.

    Args:
        model: a model of the transformers library.
    """
    config: Any = model.config
    layers = {
        name: layer.specification()
        for name, layer in quantizable_layers(model).items()
        if isinstance(layer, QuantizedLayer)
    }
    if layers:
        config.quantization_config = _Config(layers)
    elif isinstance(getattr(config, "quantization_config", None), _Config):
        del config.quantization_config


@register_quantization_config(METHOD)
class _Config(QuantizationConfigMixin):  # type: ignore[misc]
    """What the config holds: the layers' specifications by name."""

    def __init__(self, layers: dict[str, Any], **kwargs: Any) -> None:
        self.quant_method = METHOD
        self.layers = layers


@register_quantizer(METHOD)
class _Pretrained(HfQuantizer):  # type: ignore[misc]
    """Quantizes the layers of a model whose weights are about to be loaded."""

    requires_calibration = False

    def _process_model_before_weight_loading(self, model: nn.Module, **kwargs: Any) -> None:
        rules = [{"match": name, **spec} for name, spec in self.quantization_config.layers.items()]
        quantize_(model, rules, reach_frozen=True)  # of exact names, on the meta device

    def _process_model_after_weight_loading(self, model: nn.Module, **kwargs: Any) -> nn.Module:
        for module in model.modules():
            if isinstance(module, Quantizer):
                module.restore_transient()
        return model

    def is_serializable(self, *args: Any, **kwargs: Any) -> bool:
        """Return that ``save_pretrained`` may write the model."""
        return True

    @property
    def is_trainable(self) -> bool:
        """Whether the model can be trained: it is."""
        return True
