"""A packed network with the quantizers of QONNX: BipolarQuant, Quant and MultiThreshold nodes."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from ste_lightning.deploy.export.symbolic import symbolic
from ste_lightning.deploy.export.torch_form import PlainEmbedding, PlainInput, PlainLayer
from ste_lightning.deploy.layers.embedding import PackedEmbedding
from ste_lightning.deploy.layers.input_quantizers import BinaryInput, Input, LevelsInput
from ste_lightning.deploy.layers.packed_layer import PackedLayer

__all__ = ["qonnx_layer"]

_DOMAIN = "qonnx.custom_op.general::"


class QonnxInput(PlainInput):
    """How a packed layer quantizes: BipolarQuant and MultiThreshold, which tell their integers."""

    def levels(self, x: Tensor, axis: int) -> tuple[Tensor, Tensor | None]:
        """Return the input's integer levels as floats, and the scale of each token."""
        quantizer = self.quantizer
        if isinstance(quantizer, LevelsInput):
            assert quantizer.codes is not None
            if self.turns:
                x = x * quantizer.factor.view([-1, *[1] * (x.dim() - 1 - axis)])
            lowest, bits = quantizer.codes.offset, quantizer.codes.bits
            return _thresholds(x, axis, quantizer.thresholds, lowest, bits), None
        if isinstance(quantizer, BinaryInput) and quantizer.name == "sign":
            given = (quantizer.shifted(x, axis), torch.ones(()))
            return symbolic(f"{_DOMAIN}BipolarQuant", given, x.dtype, x.shape), None
        if isinstance(quantizer, BinaryInput):  # y > 0 is y >= the least float
            least = torch.full((1, 1), torch.finfo(torch.float32).smallest_normal)
            return _thresholds(quantizer.shifted(x, axis), axis, least, 0, 1), None
        return super().levels(x, axis)


def _thresholds(x: Tensor, axis: int, table: Tensor, lowest: int, bits: int) -> Tensor:
    """Return how many thresholds each element reaches, plus the lowest level."""
    highest = lowest + table.shape[1]
    kind = f"UINT{bits}" if lowest >= 0 else f"INT{bits}"
    if lowest >= 0 and highest == 1:
        kind = "BINARY"
    elif highest >= 2 ** (bits - (lowest < 0)) or lowest < -(2 ** (bits - 1)):
        kind = f"INT{bits + 1}"
    layout = {0: "NC", 1: "NCW", 2: "NCHW"}.get(x.dim() - 1 - axis, "")
    options = {"out_dtype": kind, "data_layout": layout, "out_bias": float(lowest)}
    return symbolic(f"{_DOMAIN}MultiThreshold", (x, table), x.dtype, x.shape, **options)


class QonnxLayer(PlainLayer):
    """A packed layer whose weights are behind BipolarQuant, or Quant with their bits."""

    def __init__(self, layer: PackedLayer, input: PlainInput) -> None:
        super().__init__(layer, input)
        # Signed integers of b bits are -2^(b-1) .. 2^(b-1) - 1.
        largest = max(-int(self.weight.min()), int(self.weight.max()) + 1)
        self.bits = float((largest - 1).bit_length() + 1)
        self.weight = self.weight.float()

    def float_levels(self) -> Tensor:
        """Return the integer weights as floats."""
        w, one = self.weight, torch.ones(())
        if self.codes.signs:
            return symbolic(f"{_DOMAIN}BipolarQuant", (w, one), w.dtype, w.shape)
        given = (w, one, torch.zeros(()), torch.tensor(self.bits))
        options = {"signed": 1, "narrow": 0, "rounding_mode": "ROUND"}
        return symbolic(f"{_DOMAIN}Quant", given, w.dtype, w.shape, **options)


class QonnxEmbedding(QonnxLayer, PlainEmbedding):
    """A packed embedding table behind such nodes."""


def qonnx_layer(layer: nn.Module, bound: float | None) -> nn.Module:
    """Return a packed layer with nodes of QONNX, and a copy of any other."""
    if isinstance(layer, Input):
        return QonnxInput(layer)
    if isinstance(layer, PackedEmbedding):
        return QonnxEmbedding(layer, QonnxInput(layer.input))
    if isinstance(layer, PackedLayer):
        return QonnxLayer(layer, QonnxInput(layer.input))
    return copy.deepcopy(layer)
