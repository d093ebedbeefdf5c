"""A packed network in torch operators alone, as exporters need it.

The integers stay integers: weights are small whole numbers in float32 (int8 in the file where the
format allows), inputs are compared with the same thresholds.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ste_lightning.deploy.file.save import captured
from ste_lightning.deploy.graph.network import PackedNetwork
from ste_lightning.deploy.graph.operators import resolved
from ste_lightning.deploy.graph.steps import CONSTANT, Ref, filled, references
from ste_lightning.deploy.layers.embedding import PackedEmbedding
from ste_lightning.deploy.layers.input_quantizers import BinaryInput, Input, LevelsInput, TokenInput
from ste_lightning.deploy.layers.packed_layer import PackedLayer, scaled_weight

__all__ = ["plain_network"]


class PlainInput(nn.Module):
    """How a packed layer quantizes, in torch operators.

    Args:
        quantizer: the packed layer's.
        qonnx: whether to write BipolarQuant and MultiThreshold nodes.
    """

    def __init__(self, quantizer: Input, qonnx: bool) -> None:
        super().__init__()
        self.qonnx = qonnx
        self.quantizer = quantizer

    def forward(self, x: Tensor) -> Tensor:
        """Return the quantized values of numbers whose channels are on the last axis."""
        levels, scale = self.levels(x, x.dim() - 1)
        return levels * (self.quantizer.scale if scale is None else scale)

    def levels(self, x: Tensor, axis: int) -> tuple[Tensor, Tensor | None]:
        """Return the input's integer levels as floats, and the scale of each token."""
        quantizer = self.quantizer
        if isinstance(quantizer, TokenInput):
            assert quantizer.codes is not None
            codes, scale = quantizer.encode_tokens(x)
            return codes.to(x.dtype) + quantizer.codes.offset, scale
        if isinstance(quantizer, LevelsInput):
            assert quantizer.codes is not None
            return self._staircase(x, axis, quantizer) + quantizer.codes.offset, None
        if self.qonnx and isinstance(quantizer, BinaryInput) and quantizer.name == "sign":
            return _symbolic("BipolarQuant", (quantizer.shifted(x, axis), torch.ones(())), x), None
        return quantizer.values(x, axis, integers=True), None

    def _staircase(self, x: Tensor, axis: int, quantizer: LevelsInput) -> Tensor:
        """Return how many thresholds each element reaches."""
        thresholds = quantizer.thresholds
        shape = [1] * x.dim()
        shape[axis] = -1
        if len(thresholds) > 1:
            x = x * quantizer.factor.view(shape)
        if self.qonnx:
            layout = {0: "NC", 1: "NCW", 2: "NCHW"}.get(x.dim() - 1 - axis, "")
            attributes = {"out_dtype": "FLOAT32", "data_layout": layout}
            return _symbolic("MultiThreshold", (x, thresholds), x, attributes)
        count = thresholds.shape[1]
        if count <= 15:
            reached = torch.zeros_like(x)
            for threshold in thresholds.T:
                reached = reached + (x >= threshold.view(shape)).to(x.dtype)
            return reached
        if len(thresholds) > 1:
            steps = thresholds.view(*shape, count)
            return (x.unsqueeze(-1) >= steps).to(x.dtype).sum(-1)
        # Bit by bit from the highest: reached(c + bit) decides it.
        padded = torch.cat([thresholds[0], thresholds.new_full((256 - count,), float("inf"))])
        code = torch.zeros_like(x, dtype=torch.long)
        for bit in reversed(range(count.bit_length())):
            above = code + (1 << bit)
            code = torch.where(x >= padded[above - 1], above, code)
        return code.to(x.dtype)


class PlainLayer(nn.Module):
    """A packed layer as torch operators, or with the operators of QONNX.

    Args:
        layer: the packed layer.
        qonnx: whether to write BipolarQuant, Quant and MultiThreshold nodes.
    """

    weight: Tensor
    scale: Tensor | None
    bias: Tensor | None

    def __init__(self, layer: PackedLayer, qonnx: bool) -> None:
        super().__init__()
        self.qonnx = qonnx
        self.input = PlainInput(layer.input, qonnx)
        self.codes, self.product = layer.weight_codes, layer.product
        self.growth = getattr(layer, "output_padding", None)  # of transposed convolutions
        self.pad_level = layer.pad_level() or 0.0
        weight = layer.integer_weight()
        # Signed integers of b bits are -2^(b-1) .. 2^(b-1) - 1.
        largest = max(-int(weight.min()), int(weight.max()) + 1)
        self.signed_bits = float((largest - 1).bit_length() + 1)
        small = not qonnx and largest <= 128
        self.register_buffer("weight", weight.to(torch.int8 if small else torch.float32))
        self.register_buffer("scale", layer.result_scale())
        self.register_buffer("bias", layer.bias)

    def forward(self, x: Tensor, growth: Any = ()) -> Tensor:
        """Return what the packed layer returns."""
        dims = self.weight.dim() - 2
        levels, token_scale = self.input.levels(x, x.dim() - 1 - dims)
        if token_scale is not None and dims:  # a convolution mixes tokens
            levels, token_scale = levels * token_scale, None
        weight, scale = self._weight(), self.scale
        if scale is not None and scale.dim() > 1:  # before the sum
            weight, scale = scaled_weight(weight, scale), None
        options = {} if self.growth is None else {"output_padding": tuple(growth or self.growth)}
        y = self.product(levels, weight, None, self.pad_level, **options)
        shape = [-1, *[1] * dims]
        if scale is not None:
            y = y * scale.view(shape)
        if token_scale is not None:
            y = y * token_scale
        return y if self.bias is None else y + self.bias.view(shape)

    def _weight(self) -> Tensor:
        if not self.qonnx:
            return self.weight.float()
        one = torch.ones(())
        if self.codes.signs:
            return _symbolic("BipolarQuant", (self.weight, one), self.weight)
        attributes = {"signed": 1, "narrow": 0, "rounding_mode": "ROUND"}
        operands = (self.weight, one, torch.zeros(()), torch.tensor(self.signed_bits))
        return _symbolic("Quant", operands, self.weight, attributes)


class PlainEmbedding(PlainLayer):
    """A packed embedding table, as integers."""

    def forward(self, x: Tensor, growth: Any = ()) -> Tensor:
        """Return the rows at the indices ``x``."""
        weight, scale = self._weight(), self.scale
        if scale is not None and scale.dim() > 1:
            weight, scale = scaled_weight(weight, scale), None
        rows = F.embedding(x, weight)
        return rows if scale is None else rows * F.embedding(x, scale.unsqueeze(-1))


def plain_layer(layer: nn.Module, qonnx: bool) -> nn.Module:
    """Return a packed layer in torch operators, and a copy of any other."""
    if isinstance(layer, Input):
        return PlainInput(layer, qonnx)
    if isinstance(layer, PackedEmbedding):
        return PlainEmbedding(layer, qonnx)
    return PlainLayer(layer, qonnx) if isinstance(layer, PackedLayer) else copy.deepcopy(layer)


def _symbolic(
    name: str, operands: tuple[Tensor, ...], like: Tensor, attributes: dict[str, Any] | None = None
) -> Tensor:
    found: Tensor = torch.onnx.ops.symbolic(
        f"qonnx.custom_op.general::{name}",
        operands,
        attributes or {},
        dtype=like.dtype,
        shape=like.shape,
        version=1,
    )
    return found


class PlainNetwork(nn.Module):
    """A captured network with torch operators in the place of packed layers.

    Args:
        network: a packed network.
        qonnx: whether to write quantizers as nodes of QONNX.
    """

    def __init__(self, network: PackedNetwork, qonnx: bool = False) -> None:
        super().__init__()
        captured(network)
        graph = network.graph
        assert graph is not None
        self._graph, self.output = graph, graph.output
        self._places = {name: str(i) for i, name in enumerate(graph.layers())}
        layers = network.layers()
        self.layers = nn.ModuleDict(
            {place: plain_layer(layers[name], qonnx) for name, place in self._places.items()}
        )
        constants = network.constants()
        self._names = {CONSTANT + name: f"constant_{i}" for i, name in enumerate(constants)}
        for name, value in constants.items():
            self.register_buffer(self._names[CONSTANT + name], value.detach().clone())
        self.eval()

    def forward(self, *inputs: Tensor) -> Any:
        """Return the network's result: a tensor, or a tuple of all tensors in it."""
        values: dict[str, Any] = {name: getattr(self, key) for name, key in self._names.items()}
        names = [given.name for given in self._graph.inputs]
        values |= dict(zip(names, inputs, strict=True))

        def put(value: Any) -> Any:
            return filled(value, lambda ref: values[ref.name], lambda record: record)

        for step in self._graph.steps:
            layer = step.op == "layer"
            call = self.layers[self._places[step.target]] if layer else resolved(step.target)
            if step.target != "sizes.check":
                values[step.result] = call(*put(step.args), **put(step.kwargs))
        output = self._graph.output
        if isinstance(output, Ref):
            return values[output.name]
        return tuple(values[name] for name in references(output))


def plain_network(network: PackedNetwork, qonnx: bool = False) -> PlainNetwork:
    """Return a captured network with every packed layer replaced by torch operators.

    Args:
        network: a packed network.
        qonnx: whether to write quantizers as nodes of QONNX.
    """
    return PlainNetwork(network, qonnx)
