"""A packed network in torch operators alone, as exporters need it.

The integers stay integers: weights are small whole numbers, inputs are compared with the same
thresholds, or rounded where that gives every code exactly.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ste_lightning.deploy.export.even_levels import Even, even, line
from ste_lightning.deploy.export.folded import folded
from ste_lightning.deploy.file.save import captured
from ste_lightning.deploy.fusion.rows import ROWS
from ste_lightning.deploy.graph.network import PackedNetwork
from ste_lightning.deploy.graph.operators import resolved
from ste_lightning.deploy.graph.simplify import without_unused
from ste_lightning.deploy.graph.steps import Ref, applied, references
from ste_lightning.deploy.layers.embedding import PackedEmbedding
from ste_lightning.deploy.layers.input_quantizers import Input, LevelsInput, TokenInput
from ste_lightning.deploy.layers.packed_layer import PackedLayer, fits_signed, scaled_weight

__all__ = ["PlainEmbedding", "PlainInput", "PlainLayer", "PlainNetwork", "plain_layer"]

Form = Callable[[nn.Module, float | None], nn.Module]


class PlainInput(nn.Module):
    """How a packed layer quantizes, in torch operators.

    Args:
        quantizer: the packed layer's.
        bound: on its inputs, where these are whole numbers.
    """

    def __init__(self, quantizer: Input, bound: float | None = None) -> None:
        super().__init__()
        self.quantizer = quantizer
        factor = getattr(quantizer, "factor", None)
        self.turns = factor is not None and bool((factor != 1).any())  # codes fall somewhere
        self.even: Even | None = None
        self.line: tuple[Tensor, Tensor] | None = None
        if isinstance(quantizer, LevelsInput):
            self.even = even(quantizer)
            if self.even is None and bound is not None:
                self.line = line(quantizer, bound)

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
            return self.reached(x, axis).to(x.dtype) + quantizer.codes.offset, None
        return quantizer.values(x, axis, integers=True), None

    def reached(self, x: Tensor, axis: int) -> Tensor:
        """Return how many thresholds each element reaches."""
        quantizer = self.quantizer
        assert isinstance(quantizer, LevelsInput)
        count = quantizer.thresholds.shape[1]
        if self.even is not None:
            return self.even.rounded(x).clamp(0, count)
        shape = [-1, *[1] * (x.dim() - 1 - axis)]
        if self.line is not None:
            factor, offset = (part.view(shape) for part in self.line)
            return torch.round(x * factor + offset).clamp(0, count)
        if self.turns:
            x = x * quantizer.factor.view(shape)
        return _staircase(x, axis, quantizer.thresholds)


def _staircase(x: Tensor, axis: int, thresholds: Tensor) -> Tensor:
    """Return how many thresholds each element reaches, by comparing."""
    shape = [1] * x.dim()
    shape[axis] = -1
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
    """A packed layer as torch operators: a product of whole numbers in floats.

    Args:
        layer: the packed layer.
        input: how its input is quantized.
    """

    weight: Tensor
    scale: Tensor | None
    bias: Tensor | None

    def __init__(self, layer: PackedLayer, input: PlainInput) -> None:
        super().__init__()
        self.input = input
        self.codes, self.product = layer.weight_codes, layer.product
        self.growth = getattr(layer, "output_padding", None)  # of transposed convolutions
        self.pad_level = layer.pad_level() or 0.0
        weight = layer.integer_weight()
        kind = torch.int8 if fits_signed(weight, 8) else torch.float32
        self.register_buffer("weight", weight.to(kind))
        self.register_buffer("scale", layer.result_scale())
        self.register_buffer("bias", layer.bias)

    def forward(self, x: Tensor, growth: Any = ()) -> Tensor:
        """Return what the packed layer returns."""
        dims = self.weight.dim() - 2
        levels, token_scale = self.input.levels(x, x.dim() - 1 - dims)
        if token_scale is not None and dims:  # a convolution mixes tokens
            levels, token_scale = levels * token_scale, None
        weight, scale = self.float_levels(), self.scale
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

    def float_levels(self) -> Tensor:
        """Return the integer weights as floats."""
        return self.weight.float()


class PlainEmbedding(PlainLayer):
    """A packed embedding table, as integers."""

    def forward(self, x: Tensor, growth: Any = ()) -> Tensor:
        """Return the rows at the indices ``x``."""
        weight, scale = self.float_levels(), self.scale
        if scale is not None and scale.dim() > 1:
            weight, scale = scaled_weight(weight, scale), None
        rows = F.embedding(x, weight)
        return rows if scale is None else rows * F.embedding(x, scale.unsqueeze(-1))


def plain_layer(layer: nn.Module, bound: float | None) -> nn.Module:
    """Return a packed layer in torch operators, and a copy of any other.

    Args:
        layer: the layer.
        bound: on its inputs, where these are whole numbers.
    """
    if isinstance(layer, Input):
        return PlainInput(layer)
    if isinstance(layer, PackedEmbedding):
        return PlainEmbedding(layer, PlainInput(layer.input))
    if isinstance(layer, PackedLayer):
        return PlainLayer(layer, PlainInput(layer.input, bound))
    return copy.deepcopy(layer)


class PlainNetwork(nn.Module):
    """A captured network with other operators in the place of packed layers.

    Args:
        network: a packed network.
        form: what takes a layer's place.
    """

    def __init__(self, network: PackedNetwork, form: Form = plain_layer) -> None:
        super().__init__()
        captured(network)
        self._given = given = folded(network)
        self.output = given.output
        # checks would fix sizes, and so would what only they use
        unchecked = [step for step in given.steps if step.target != "sizes.check"]
        self._steps = without_unused(unchecked, given.output)
        called = {step.target for step in given.steps if step.op == "layer"}
        names = [name for name in given.layers if name in called]
        self.places = {name: str(i) for i, name in enumerate(names)}
        self.layers = nn.ModuleDict(
            {self.places[name]: form(given.layers[name], given.whole.get(name)) for name in names}
        )
        self._names = {name: f"constant_{i}" for i, name in enumerate(given.constants)}
        for name, value in given.constants.items():
            self.register_buffer(self._names[name], value.detach().clone())
        self.eval()

    def forward(self, *inputs: Tensor) -> Any:
        """Return the network's result: a tensor, or a tuple of all tensors in it."""
        values: dict[str, Any] = {name: getattr(self, key) for name, key in self._names.items()}
        values.update(zip(self._given.inputs, inputs, strict=True))  # torch 2.6 exports no |=
        for step in self._steps:
            call: Any = ROWS.get(step.target)
            if step.op == "layer":
                call = self.layers[self.places[step.target]]
            elif call is None:
                call = resolved(step.target)
            values[step.result] = applied(call, step, values)
        output = self._given.output
        if isinstance(output, Ref):
            return values[output.name]
        return tuple(values[name] for name in references(output))
