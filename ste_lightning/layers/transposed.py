"""Quantized transposed convolutions in one and two dimensions."""

from __future__ import annotations

from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from ste_lightning.layers.quantized import QuantizedLayer, quantizes
from ste_lightning.quantizers import QuantizerSpec

__all__ = ["QuantConvTranspose1d", "QuantConvTranspose2d"]


class _QuantizedTransposed(QuantizedLayer, nn.modules.conv._ConvTransposeNd):
    """The forward pass that both share; the output channel is the weight's second axis."""

    channel_dim: ClassVar[int] = 1

    def __init__(
        self,
        *args: Any,
        weight_quantizer: QuantizerSpec = "sign",
        input_quantizer: QuantizerSpec = "sign",
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._attach(*self._build(weight_quantizer, input_quantizer))

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Return the transposed convolution of the quantized input and weights."""
        spatial = self.weight.dim() - 2
        padding = self._output_padding(
            input,
            output_size,
            self.stride,  # type: ignore[arg-type]
            self.padding,  # type: ignore[arg-type]
            self.kernel_size,  # type: ignore[arg-type]
            spatial,
            self.dilation,  # type: ignore[arg-type]
        )
        convolve = (F.conv_transpose1d, F.conv_transpose2d)[spatial - 1]
        y: Tensor = convolve(
            self.quantized_input(input),
            self.forward_weight(),
            self.bias,
            self.stride,
            self.padding,  # type: ignore[arg-type]
            padding,
            self.groups,
            self.dilation,
        )
        return y


@quantizes(nn.ConvTranspose1d)
class QuantConvTranspose1d(_QuantizedTransposed, nn.ConvTranspose1d):
    """``nn.ConvTranspose1d`` with quantized weights and inputs; see :class:`QuantLinear`."""


@quantizes(nn.ConvTranspose2d)
class QuantConvTranspose2d(_QuantizedTransposed, nn.ConvTranspose2d):
    """``nn.ConvTranspose2d`` with quantized weights and inputs; see :class:`QuantLinear`."""
