"""Quantized convolutions in one, two and three dimensions."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ste_lightning.errors import require
from ste_lightning.functional.products.specification import ConvolutionGeometry
from ste_lightning.layers.quantized import QuantizedLayer, quantizes
from ste_lightning.quantizers import QuantizerSpec

__all__ = ["QuantConv1d", "QuantConv2d", "QuantConv3d"]


class _QuantizedConvolution(QuantizedLayer, nn.modules.conv._ConvNd):
    """The forward pass that the three convolutions share."""

    def __init__(
        self,
        *args: Any,
        weight_quantizer: QuantizerSpec = "sign",
        input_quantizer: QuantizerSpec = "sign",
        pad_value: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._attach(*self._build(weight_quantizer, input_quantizer), pad_value=pad_value)

    def _attach(
        self,
        weight_quantizer: nn.Module | None,
        input_quantizer: nn.Module | None,
        pad_value: float = 0.0,
    ) -> None:
        require(
            pad_value == 0 or self.padding_mode == "zeros",
            "pad_value",
            pad_value,
            f"padding_mode={self.padding_mode!r} takes its values from the input; leave it 0.0",
        )
        super()._attach(weight_quantizer, input_quantizer)
        self.pad_value = float(pad_value)

    def specification(self) -> dict[str, Any]:
        """Return the quantizers' specifications, and what the padding is."""
        return {**super().specification(), "pad_value": self.pad_value}

    def to_float(self) -> nn.Module:
        """Turn the layer back into its torch class, in place."""
        del self.pad_value
        return super().to_float()

    def forward(self, input: Tensor) -> Tensor:
        """Return the convolution of the quantized input with the quantized weights."""
        geometry = self._geometry(input)
        y = None if geometry is None else self.lean_product(input, geometry)
        if y is not None:
            return y
        x = self.quantized_input(input)
        weight = self.forward_weight()
        if self.pad_value == 0 or not any(self._reversed_padding_repeated_twice):
            return self._conv_forward(x, weight, self.bias)
        x = F.pad(x, self._reversed_padding_repeated_twice, value=self.pad_value)
        convolve = (F.conv1d, F.conv2d, F.conv3d)[weight.dim() - 3]
        out: Tensor = convolve(x, weight, self.bias, self.stride, 0, self.dilation, self.groups)
        return out

    def _geometry(self, x: Tensor) -> ConvolutionGeometry | None:
        """Return the geometry of a batch of zero-padded images, with the same on both sides."""
        pads = self._reversed_padding_repeated_twice
        if self.padding_mode != "zeros" or x.dim() != self.weight.dim() or pads[::2] != pads[1::2]:
            return None
        padding = tuple(reversed(pads[::2]))
        return ConvolutionGeometry(self.stride, padding, self.dilation, self.groups, self.pad_value)

    def extra_repr(self) -> str:
        """Return the torch layer's line, the quantizers, and a padding value other than 0."""
        pad = "" if self.pad_value == 0 else f", pad_value={self.pad_value:g}"
        return super().extra_repr() + pad


@quantizes(nn.Conv1d)
class QuantConv1d(_QuantizedConvolution, nn.Conv1d):
    """y = conv1d(q_x(x), q_w(W)) + b; arguments as in :class:`QuantConv2d`."""


@quantizes(nn.Conv2d)
class QuantConv2d(_QuantizedConvolution, nn.Conv2d):
    """y = conv2d(q_x(x), q_w(W)) + b: ``nn.Conv2d`` with quantized weights and inputs.

    Args:
        args, kwargs: as in :class:`torch.nn.Conv2d`.
        weight_quantizer: a name, a mapping, a module, or ``None`` for float weights.
        input_quantizer: likewise for the input, which is quantized before it is padded.
        pad_value: what pads the quantized input under ``padding_mode="zeros"``; with ``sign``
            inputs, 1.0 or -1.0 keeps it binary where 0.0 makes a third value.

    Raises:
        ConfigurationError: for a quantizer that cannot be built, or a ``pad_value`` together
            with another ``padding_mode``.
    """


@quantizes(nn.Conv3d)
class QuantConv3d(_QuantizedConvolution, nn.Conv3d):
    """y = conv3d(q_x(x), q_w(W)) + b; arguments as in :class:`QuantConv2d`."""
