"""MatMulNBits, onnxruntime's product of floats with weights that stay packed in memory.

Float inputs are multiplied as floats. Tokens are rounded by the operator itself, each block of 128
numbers in units of a 127th of the block's largest: so every block holds 127 numbers of the token
and one that makes the unit the token's own, and that meets a weight of zero.
"""

from __future__ import annotations

import numpy as np
import torch

from ste_lightning.deploy.export.onnx_nodes import Nodes, packed_codes
from ste_lightning.deploy.layers.input_quantizers import TokenInput
from ste_lightning.deploy.layers.linear_and_conv import PackedLinear
from ste_lightning.deploy.layers.packed_layer import PackedLayer, fits_signed

__all__ = ["multiplied", "takes_bits"]

_BLOCK = 128
_EXACT, _BYTES = 1, 4  # accuracy levels: floats; bytes of both


def takes_bits(layer: PackedLayer) -> bool:
    """Return whether onnxruntime's operator is the faster product of a layer.

    That are linear layers of tokens, and those of floats with four bits: with two and eight bits
    its products of floats took 20 times as long as those of float weights.
    """
    if not isinstance(layer, PackedLinear) or layer.scales > 1:
        return False
    if layer.input.codes is None:
        return _width(layer) == 4
    return isinstance(layer.input, TokenInput) and _width(layer) > 0


def _width(layer: PackedLayer) -> int:
    """Return how many bits a weight takes, 0 where its levels are not those of signed integers."""
    weight = layer.integer_weight()
    return next((bits for bits in (2, 4, 8) if fits_signed(weight, bits)), 0)


def multiplied(nodes: Nodes, layer: PackedLayer, x: str, rank: int, y: str) -> None:
    """Add a layer's result ``y``.

    Args:
        nodes: where it goes.
        layer: that :func:`takes_bits`.
        x, rank: its input (*, inputs), and the number of axes.
        y: its result's name.
    """
    quantizer = layer.input
    tokens = isinstance(quantizer, TokenInput)
    bits, (outputs, inputs) = _width(layer), layer.shape
    room = _BLOCK - 1 if tokens else _BLOCK
    blocks = -(-inputs // room)
    weight = torch.nn.functional.pad(layer.integer_weight().int(), (0, blocks * room - inputs))
    weight = torch.nn.functional.pad(weight.view(outputs, blocks, room), (0, _BLOCK - room))
    if blocks * room != inputs:  # zeros after the numbers
        pads = [nodes.numbers([0, blocks * room - inputs]), nodes.numbers(0, np.float32)]
        x = nodes.add("Pad", [x, *pads, nodes.numbers([-1])])
    if isinstance(quantizer, TokenInput):
        x = _in_units(nodes, quantizer, x, rank, blocks)
    codes = packed_codes((weight + 2 ** (bits - 1)).numpy(), bits)
    stored = nodes.tensor(torch.from_numpy(codes).view(outputs, blocks, -1))
    scale = torch.ones(outputs) if layer.scale is None else layer.scale
    sizes = nodes.numbers(
        [outputs, blocks]
    )  # onnxruntime expands scales once, as it loads the file
    scales = nodes.add("Expand", [nodes.tensor(scale.view(-1, 1)), sizes])
    given = [x, stored, nodes.add("Reshape", [scales, nodes.numbers([-1])])]
    given += [] if layer.bias is None else ["", "", nodes.tensor(layer.bias)]
    nodes.add(
        "MatMulNBits",
        given,
        y,
        domain="com.microsoft",
        K=blocks * _BLOCK,
        N=outputs,
        bits=bits,
        block_size=_BLOCK,
        accuracy_level=_BYTES if tokens else _EXACT,
    )


def _in_units(nodes: Nodes, quantizer: TokenInput, x: str, rank: int, blocks: int) -> str:
    """Return tokens in blocks of 127 numbers and one that makes each block's unit the token's."""
    add, numbers, others = nodes.add, nodes.numbers, [0] * (rank - 1)  # axes that stay
    assert quantizer.codes is not None
    unit = 127 / (-quantizer.codes.offset - 1)
    split = add("Reshape", [x, numbers([*others, blocks, _BLOCK - 1])])
    size = add("ReduceMax", [add("Abs", [x]), numbers([-1])], keepdims=1)
    size = add("Max", [size, numbers(quantizer.smallest, np.float32)])
    if unit != 1:
        size = add("Mul", [size, numbers(unit, np.float32)])
    each = add("Expand", [add("Unsqueeze", [size, numbers([-1])]), numbers([blocks, 1])])
    full = add("Concat", [split, each], axis=-1)
    return add("Reshape", [full, numbers([*others, blocks * _BLOCK])])
