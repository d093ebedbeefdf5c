"""Layers of other packages for ``training_step.py``: those that are installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["PlainLSQ", "PlainUniform", "peer_convolutions", "peer_layers"]

Layer = Callable[..., nn.Module]


class PlainLSQ(nn.Linear):
    """LSQ as people write it from tensor operations: 4 bits, learned steps, ``detach`` idiom."""

    def __init__(self, *args: int, quantizes_input: bool = True) -> None:
        super().__init__(*args)
        self.weight_step = nn.Parameter(2 * self.weight.detach().abs().mean() / 7**0.5)
        self.input_step = nn.Parameter(self.weight_step.detach() * 0 + 0.6)
        self.quantizes_input = quantizes_input

    @staticmethod
    def _quantize(x: Tensor, step: Tensor, features: int) -> Tensor:
        factor = (features * 7) ** -0.5
        step = (step - step * factor).detach() + step * factor
        v = (x / step).clamp(-8, 7)
        return ((v.round() - v).detach() + v) * step

    def forward(self, x: Tensor) -> Tensor:
        """Return the product of the quantized operands."""
        if self.quantizes_input:
            x = self._quantize(x, self.input_step, x.shape[1])
        weight = self._quantize(self.weight, self.weight_step, self.weight.numel())
        return nn.functional.linear(x, weight, self.bias)


class PlainUniform(nn.Linear):
    """Uniform grids as people write them: 4 bits, per channel and by a running range."""

    def __init__(self, *args: int, quantizes_input: bool = True) -> None:
        super().__init__(*args)
        self.register_buffer("low", torch.zeros(()))
        self.register_buffer("high", torch.zeros(()))
        self.quantizes_input = quantizes_input

    @staticmethod
    def _quantize(x: Tensor, step: Tensor, zero: Tensor | float, low: int, high: int) -> Tensor:
        v = (x / step + zero).clamp(low, high)
        return ((v.round() - v).detach() + v - zero) * step

    def forward(self, x: Tensor) -> Tensor:
        """Return the product of the quantized operands."""
        if self.quantizes_input:
            low, high = x.detach().aminmax()
            self.low.lerp_(low.clamp_max(0), 0.1)
            self.high.lerp_(high.clamp_min(0), 0.1)
            step = ((self.high - self.low) / 15).clamp_min(1e-8)
            x = self._quantize(x, step, (-self.low / step).round(), 0, 15)
        step = self.weight.detach().abs().amax(1, keepdim=True) / 7
        return nn.functional.linear(x, self._quantize(self.weight, step, 0.0, -7, 7), self.bias)


def _has(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def peer_layers() -> dict[str, tuple[Layer, Layer]]:
    """Return by name the linear layers with float inputs and with quantized inputs."""
    found: dict[str, tuple[Layer, Layer]] = {}
    if _has("bitorch"):
        from bitorch.layers import QLinear

        def bitorch(inputs: str) -> Layer:
            return lambda a, b: QLinear(a, b, input_quantization=inputs, weight_quantization="sign")

        found["bitorch"] = bitorch("identity"), bitorch("sign")
    if _has("brevitas"):
        import brevitas.nn as bnn
        from brevitas.quant import Int8ActPerTensorFloat, Int8WeightPerTensorFloat
        from brevitas.quant.binary import SignedBinaryActPerTensorConst as BinaryAct
        from brevitas.quant.binary import SignedBinaryWeightPerTensorConst as BinaryWeight

        def brevitas(weight: Any, inputs: Any, bits: int) -> Layer:
            width = {"weight_bit_width": bits} if bits > 1 else {}
            if inputs is not None and bits > 1:
                width["input_bit_width"] = bits
            return lambda a, b: bnn.QuantLinear(
                a, b, bias=True, weight_quant=weight, input_quant=inputs, **width
            )

        found["brevitas, 1 bit"] = (
            brevitas(BinaryWeight, None, 1),
            brevitas(BinaryWeight, BinaryAct, 1),
        )
        found["brevitas, 4 bits"] = (
            brevitas(Int8WeightPerTensorFloat, None, 4),
            brevitas(Int8WeightPerTensorFloat, Int8ActPerTensorFloat, 4),
        )
    if _has("torchao"):
        from torchao.quantization.qat import FakeQuantizedLinear, IntxFakeQuantizeConfig

        inputs = IntxFakeQuantizeConfig(torch.int8, "per_token", is_symmetric=False)
        weight = IntxFakeQuantizeConfig(torch.int4, group_size=16)

        def torchao(config: Any) -> Layer:
            return lambda a, b: FakeQuantizedLinear(
                a, b, True, activation_config=config, weight_config=weight
            )

        found["torchao, 8 and 4 bits"] = torchao(None), torchao(inputs)
    return found


def peer_convolutions() -> dict[str, Layer]:
    """Return by name the convolutions with one-bit weights and inputs."""
    found: dict[str, Layer] = {}
    if _has("bitorch"):
        from bitorch.layers import QConv2d

        found["bitorch"] = lambda *args, **kwargs: QConv2d(
            *args, input_quantization="sign", weight_quantization="sign", pad_value=0.0, **kwargs
        )
    if _has("brevitas"):
        import brevitas.nn as bnn
        from brevitas.quant.binary import SignedBinaryActPerTensorConst as BinaryAct
        from brevitas.quant.binary import SignedBinaryWeightPerTensorConst as BinaryWeight

        found["brevitas, 1 bit"] = lambda *args, **kwargs: bnn.QuantConv2d(
            *args, weight_quant=BinaryWeight, input_quant=BinaryAct, **kwargs
        )
    return found
