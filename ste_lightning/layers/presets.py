"""Layers with the quantizers of well-known networks."""

from __future__ import annotations

from typing import Any

from ste_lightning.layers.convolution import QuantConv1d, QuantConv2d, QuantConv3d
from ste_lightning.layers.linear import QuantLinear

__all__ = [
    "BinaryConv1d",
    "BinaryConv2d",
    "BinaryConv3d",
    "BinaryLinear",
    "BitLinear",
    "TernaryLinear",
]


class BinaryLinear(QuantLinear):
    """Binary weights and inputs in {-1, +1}, both with the backward rule ``rule``.

    Source: Hubara et al. 2016, arXiv 1602.02830.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        rule: str = "clipped",
        **kwargs: Any,
    ) -> None:
        spec = {"map": "sign", "rule": rule}
        kwargs = {"weight_quantizer": spec, "input_quantizer": spec, **kwargs}
        super().__init__(in_features, out_features, bias, **kwargs)


class TernaryLinear(QuantLinear):
    """Ternary weights alpha {-1, 0, +1} with threshold 0.7 mean|w|; float inputs.

    Source: Li et al. 2016, arXiv 1605.04711 (ternary weight networks).
    """

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, **kwargs: Any
    ) -> None:
        kwargs = {"weight_quantizer": "twn", "input_quantizer": None, **kwargs}
        super().__init__(in_features, out_features, bias, **kwargs)


class BitLinear(QuantLinear):
    """Ternary weights scaled by mean|w|, and 8-bit inputs with one scale per token; no bias.

    BitNet normalizes the input first: put an ``nn.RMSNorm`` before the layer.

    Source: Ma et al. 2024, arXiv 2402.17764 (BitNet b1.58).
    """

    def __init__(
        self, in_features: int, out_features: int, bias: bool = False, **kwargs: Any
    ) -> None:
        kwargs = {"weight_quantizer": "bitnet", "input_quantizer": "token", **kwargs}
        super().__init__(in_features, out_features, bias, **kwargs)


def _binary(kwargs: dict[str, Any], rule: str) -> dict[str, Any]:
    spec = {"map": "sign", "rule": rule}
    pad = 1.0 if kwargs.get("padding_mode", "zeros") == "zeros" else 0.0
    return {"weight_quantizer": spec, "input_quantizer": spec, "pad_value": pad, **kwargs}


class BinaryConv1d(QuantConv1d):
    """Binary weights and inputs in {-1, +1}, padded with +1, with the backward rule ``rule``."""

    def __init__(self, *args: Any, rule: str = "clipped", **kwargs: Any) -> None:
        super().__init__(*args, **_binary(kwargs, rule))


class BinaryConv2d(QuantConv2d):
    """Binary weights and inputs in {-1, +1}, padded with +1, with the backward rule ``rule``."""

    def __init__(self, *args: Any, rule: str = "clipped", **kwargs: Any) -> None:
        super().__init__(*args, **_binary(kwargs, rule))


class BinaryConv3d(QuantConv3d):
    """Binary weights and inputs in {-1, +1}, padded with +1, with the backward rule ``rule``."""

    def __init__(self, *args: Any, rule: str = "clipped", **kwargs: Any) -> None:
        super().__init__(*args, **_binary(kwargs, rule))
