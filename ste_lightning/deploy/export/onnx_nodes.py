"""Nodes and tensors of an ONNX graph, added one by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

__all__ = ["Nodes", "packed_codes"]

# bits -> signed type, unsigned type, opset that has them, version of the file format
_TYPES = {
    2: (TensorProto.INT2, TensorProto.UINT2, 25, 13),
    4: (TensorProto.INT4, TensorProto.UINT4, 21, 10),
}


class Nodes:
    """Nodes and tensors of a graph.

    Args:
        tensors: that are there already.
        onnxruntime: whether its own operators may be used.

    Attributes:
        opset, ir: what the types of the tensors need.
        last: results with their channels last, by the names of those that have them second.
    """

    def __init__(self, tensors: Sequence[onnx.TensorProto] = (), onnxruntime: bool = False) -> None:
        self.onnxruntime = onnxruntime
        self.nodes: list[onnx.NodeProto] = []
        self.tensors = {tensor.name: tensor for tensor in tensors}
        self.opset, self.ir, self.domains = 18, 10, set[str]()
        self._levels: dict[tuple[int, bytes], str] = {}
        self._numbers: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self.last: dict[str, str] = {}
        self._count = 0

    def add(
        self, operator: str, inputs: Sequence[str], output: str = "", domain: str = "", **more: Any
    ) -> str:
        """Add a node; return its result's name."""
        output = output or self._name("v")
        node = helper.make_node(operator, inputs, [output], domain=domain or None, **more)
        self.nodes.append(node)
        if domain:
            self.domains.add(domain)
        return output

    def _name(self, kind: str) -> str:
        self._count += 1
        return f"{kind}.{self._count}"  # short: small networks' files are half names

    def numbers(self, values: Any, dtype: Any = np.int64) -> str:
        """Return the name of a small tensor; equal ones are one."""
        array = np.asarray(values, dtype)
        known = (array.dtype.str, array.shape, array.tobytes())
        if known not in self._numbers:
            self._numbers[known] = name = self._name("n")
            self.tensors[name] = numpy_helper.from_array(array, name)
        return self._numbers[known]

    def tensor(self, values: torch.Tensor) -> str:
        """Return the name of a new tensor."""
        name = self._name("t")
        self.tensors[name] = numpy_helper.from_array(
            values.detach().cpu().contiguous().numpy(), name
        )
        return name

    def floats(self, x: str) -> str:
        """Return a result as floats."""
        return self.add("Cast", [x], to=TensorProto.FLOAT)

    def levels(
        self, weight: torch.Tensor, key: object, multiple: NDArray[np.int32] | None = None
    ) -> str:
        """Return int8 weights, which the file stores in as few bits as they need.

        Levels that two or four bits do not hold as they are, such as -3, -1, 1, 3, are stored as
        unsigned codes, and multiplied and shifted.

        Args:
            weight: integers from -128 to 127.
            key: what they are; the same is stored once.
            multiple: of the weights, for each along the first axis; 1 if left out.
        """
        known = (id(key), b"" if multiple is None else multiple.tobytes())
        if known in self._levels:
            return self._levels[known]
        values = weight.to(torch.int8).numpy()
        bits, codes, step, lowest = _narrow(values)
        alone = multiple is None or bool((multiple == 1).all())
        if bits == 8:
            name = self.tensor(weight.to(torch.int8))
        else:
            signed, unsigned, opset, ir = _TYPES[bits]
            self.opset, self.ir = max(self.opset, opset), max(self.ir, ir)
            name, kind = self._name("w"), unsigned if step else signed
            data = packed_codes(codes, bits).tobytes()
            self.tensors[name] = helper.make_tensor(name, kind, values.shape, data, raw=True)
        if step or not alone:
            name = self.add("Cast", [name], to=TensorProto.INT32)
        if step:
            name = self.add("Mul", [name, self.numbers(step, np.int32)])
            name = self.add("Add", [name, self.numbers(lowest, np.int32)])
        if multiple is not None and not alone:
            shape = (-1, *[1] * (weight.dim() - 1))
            name = self.add("Mul", [name, self.tensor(torch.from_numpy(multiple).view(shape))])
        if bits < 8 or not alone:
            name = self.add("Cast", [name], to=TensorProto.INT8)
        return self._levels.setdefault(known, name)


def _narrow(values: NDArray[np.int8]) -> tuple[int, NDArray[Any], int, int]:
    """Return bits, codes, step (0 for signed integers as they are) and lowest level."""
    lowest, highest = int(values.min()), int(values.max())
    span = values.astype(np.int32) - lowest
    step = max(int(np.gcd.reduce(span, axis=None)), 1)
    for bits in _TYPES:
        if -(2 ** (bits - 1)) <= lowest and highest < 2 ** (bits - 1):
            return bits, values, 0, 0
        if (highest - lowest) // step < 2**bits:
            return bits, span // step, step, lowest
    return 8, values, 0, 0


def packed_codes(codes: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    """Return the bytes of codes in order, the first in the lowest bits of a byte."""
    count = 8 // bits
    flat = codes.astype(np.int32).ravel() & (2**bits - 1)
    parts = np.pad(flat, (0, -flat.size % count)).reshape(-1, count) << bits * np.arange(count)
    packed: NDArray[np.uint8] = parts.sum(1).astype(np.uint8)
    return packed
