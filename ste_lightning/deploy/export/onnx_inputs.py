"""How packed layers quantize, as nodes of ONNX: every level is an unsigned byte."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from onnx import TensorProto
from torch import Tensor

from ste_lightning.deploy.export.even_levels import even, line
from ste_lightning.deploy.export.onnx_nodes import Nodes
from ste_lightning.deploy.layers.input_quantizers import BinaryInput, Input, LevelsInput, TokenInput

__all__ = ["Place", "Quantizing"]

_FEW = 15


class Place(NamedTuple):
    """A result: its name, its number of axes, and which one has the channels."""

    name: str
    rank: int
    axis: int

    def last(self, nodes: Nodes) -> Place:
        """Return it with its channels last."""
        if self.axis == self.rank - 1:
            return self
        order = [i for i in range(self.rank) if i != self.axis] + [self.axis]
        name = nodes.last.get(self.name) or nodes.add("Transpose", [self.name], perm=order)
        return Place(name, self.rank, self.rank - 1)

    def vector(self, nodes: Nodes, values: Tensor) -> str:
        """Return the name of one number per channel, as it meets the result."""
        return nodes.tensor(values.float().reshape(-1, *[1] * (self.rank - 1 - self.axis)))


class Quantizing:
    """Nodes that quantize.

    Args:
        nodes: where they go.
        quantizer: a packed layer's.
        bound: on its inputs, where these are whole numbers.
        given: whether the input is bytes already, 0 and 255 of two levels.
    """

    def __init__(
        self, nodes: Nodes, quantizer: Input, bound: float | None, given: bool = False
    ) -> None:
        self.nodes, self.quantizer, self.given = nodes, quantizer, given
        self.even = self.line = None
        if isinstance(quantizer, LevelsInput):
            found = even(quantizer)
            self.even = found if found is not None and 0 <= found.zero < 256 else None
            if self.even is None and bound is not None:
                self.line = line(quantizer, bound)

    @property
    def alike(self) -> bool:
        """Whether all channels have the same thresholds."""
        quantizer = self.quantizer
        if isinstance(quantizer, BinaryInput):
            return quantizer.factor is None or self.given
        return self.even is not None or isinstance(quantizer, TokenInput) or self.given

    @property
    def zero(self) -> int:
        """The byte that stands for zero."""
        codes = self.quantizer.codes
        assert codes is not None
        return -codes.offset

    def bytes(self, x: Place) -> tuple[str, str]:
        """Return the levels plus :attr:`zero` as unsigned bytes, and each token's scale or ""."""
        quantizer = self.quantizer
        if self.given:
            two = isinstance(quantizer, BinaryInput)
            return (
                self.nodes.add("Min", [x.name, self._byte(2 * self.zero or 1)]) if two else x.name
            ), ""
        if isinstance(quantizer, TokenInput):
            return self._tokens(x, quantizer)
        if isinstance(quantizer, BinaryInput):
            return self._binary(x, quantizer, np.uint8, self.zero), ""
        assert isinstance(quantizer, LevelsInput)
        return self._levels(x, quantizer), ""

    def floats(self, x: Place, more: int = 0) -> tuple[str, str]:
        """Return the levels as floats, ``more`` added to them, and each token's scale or ""."""
        if self.quantizer.codes is None:
            return x.name, ""
        if isinstance(self.quantizer, BinaryInput) and not self.given:
            return self._binary(x, self.quantizer, np.float32, more), ""
        # not by DequantizeLinear: onnxruntime then rounds float weights and biases that come after
        codes, token = self.bytes(x)
        found = self.nodes.floats(codes)
        if more != self.zero:
            found = self.nodes.add("Add", [found, self.nodes.numbers(more - self.zero, np.float32)])
        return found, token

    def _byte(self, value: int) -> str:
        return self.nodes.numbers(value, np.uint8)

    def _rounded(self, x: str, scale: str, zero: str, count: int, axis: int = 1) -> str:
        """Return clip(round(x / scale) + zero, 0, count)."""
        codes = self.nodes.add("QuantizeLinear", [x, scale, zero], axis=axis)
        return codes if count >= 255 else self.nodes.add("Min", [codes, self._byte(count)])

    def _tokens(self, x: Place, quantizer: TokenInput) -> tuple[str, str]:
        add, numbers = self.nodes.add, self.nodes.numbers
        top = self.zero - 1
        size = add("ReduceMax", [add("Abs", [x.name]), numbers([-1])], keepdims=1)
        size = add("Max", [size, numbers(quantizer.smallest, np.float32)])
        scale = add("Div", [size, numbers(top, np.float32)])
        flat = add("Reshape", [scale, numbers([-1])])
        rows = x.name if x.rank == 2 else add("Flatten", [x.name], axis=x.rank - 1)
        zero = add("Expand", [self._byte(self.zero), add("Shape", [flat])])
        codes = self._rounded(rows, flat, zero, self.zero + top, axis=0)
        if x.rank != 2:
            codes = add("Reshape", [codes, add("Shape", [x.name])])
        return codes, scale

    def _binary(self, x: Place, quantizer: BinaryInput, kind: type, more: int) -> str:
        """Return the level of s x + b >= 0, or > 0 of a step, and ``more``.

        The sign of a sum of floats is exact.
        """
        name, bound = x.name, self.nodes.numbers(0, np.float32)
        if quantizer.factor is not None and quantizer.offset is not None:
            bound = x.vector(self.nodes, -quantizer.offset)
            if bool((quantizer.factor != 1).any()):
                name = self.nodes.add("Mul", [name, x.vector(self.nodes, quantizer.factor)])
        compare = "Greater" if quantizer.name == "step" else "GreaterOrEqual"
        reached = self.nodes.add(compare, [name, bound])
        low, high = (0 if quantizer.name == "step" else -1, 1)
        levels = [self.nodes.numbers(level + more, kind) for level in (high, low)]
        return self.nodes.add("Where", [reached, *levels])

    def _levels(self, x: Place, quantizer: LevelsInput) -> str:
        nodes, count = self.nodes, quantizer.thresholds.shape[1]
        if self.even is not None:
            name, step = x.name, nodes.numbers(self.even.step, np.float32)
            if self.even.before:
                name = nodes.add("Sub", [name, nodes.numbers(self.even.before, np.float32)])
            if self.even.inside:
                inside = nodes.numbers(self.even.inside, np.float32)
                name = nodes.add("Add", [nodes.add("Div", [name, step]), inside])
                step = nodes.numbers(1, np.float32)
            return self._rounded(name, step, self._byte(self.even.zero), count)
        if self.line is not None:
            factor, offset = (x.vector(nodes, part) for part in self.line)
            placed = nodes.add("Add", [nodes.add("Mul", [x.name, factor]), offset])
            return self._rounded(placed, nodes.numbers(1, np.float32), self._byte(0), count)
        name = x.name
        if bool((quantizer.factor != 1).any()):
            name = nodes.add("Mul", [name, x.vector(nodes, quantizer.factor)])
        counted = self._searched if len(quantizer.thresholds) == 1 and count > _FEW else self._all
        return nodes.add("Cast", [counted(x._replace(name=name))], to=TensorProto.UINT8)

    def _all(self, x: Place) -> str:
        """Return how many thresholds each element reaches, compared with all of them."""
        assert isinstance(self.quantizer, LevelsInput)
        table, nodes = self.quantizer.thresholds, self.nodes
        shape = (-1, *[1] * (x.rank - 1 - x.axis), table.shape[1])
        each = nodes.add("Unsqueeze", [x.name, nodes.numbers([-1])])
        reached = nodes.add("GreaterOrEqual", [each, nodes.tensor(table.reshape(shape))])
        return nodes.add("ReduceSum", [nodes.floats(reached), nodes.numbers([-1])], keepdims=0)

    def _searched(self, x: Place) -> str:
        """Return the same bit by bit from the highest: reached(c + bit) decides it."""
        assert isinstance(self.quantizer, LevelsInput)
        table, nodes = self.quantizer.thresholds[0], self.nodes
        ends = [torch.zeros(1), table, torch.full((255 - len(table),), torch.inf)]
        known = nodes.tensor(torch.cat(ends))  # at c: the threshold of code c
        code = nodes.numbers(0)
        for bit in reversed(range(len(table).bit_length())):
            above = nodes.add("Add", [code, nodes.numbers(1 << bit)])
            reached = nodes.add("GreaterOrEqual", [x.name, nodes.add("Gather", [known, above])])
            code = nodes.add("Where", [reached, above, code])
        return code
