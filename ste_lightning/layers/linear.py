"""Fully connected quantized layers."""

from __future__ import annotations

from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from ste_lightning.layers.quantized import QuantizedLayer, quantizes
from ste_lightning.quantizers import QuantizerSpec

__all__ = ["QuantLinear"]


@quantizes(nn.Linear)
class QuantLinear(QuantizedLayer, nn.Linear):
    """y = q_x(x) q_w(W)^T + b: ``nn.Linear`` with quantized weights and inputs.

    Args:
        in_features, out_features, bias, device, dtype: as in :class:`torch.nn.Linear`.
        weight_quantizer: a name, a mapping, a module, or ``None`` for float weights.
        input_quantizer: likewise for the input.

    Shape:
        ``(*, in_features) -> (*, out_features)``.

    Raises:
        ConfigurationError: for a quantizer that cannot be built.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        weight_quantizer: QuantizerSpec = "sign",
        input_quantizer: QuantizerSpec = "sign",
    ) -> None:
        super().__init__(in_features, out_features, bias, device, dtype)
        self._attach(*self._build(weight_quantizer, input_quantizer))

    def forward(self, input: Tensor) -> Tensor:
        """Return the product of the quantized input with the quantized weights."""
        y = self.lean_product(input)
        if y is not None:
            return y
        return F.linear(self.quantized_input(input), self.forward_weight(), self.bias)


class QuantRowLinear(QuantizedLayer):
    """y = q_x(x) q_w(W) + b, W of shape (inputs, outputs): transformers' Conv1D, as in GPT-2."""

    channel_dim: ClassVar[int] = 1
    bias: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Return the product of the quantized input with the quantized weights."""
        return F.linear(self.quantized_input(x), self.forward_weight().t(), self.bias)


class QuantOutProjection(QuantLinear):
    """The output projection inside attention; torch gives it a class of its own."""

    float_class = NonDynamicallyQuantizableLinear
