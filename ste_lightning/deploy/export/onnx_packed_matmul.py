"""MatMulNBits, onnxruntime's product of floats with weights that stay packed in memory.

Float inputs are multiplied as floats. Levels of a quantizer are whole numbers: onnxruntime rounds
each block of 128 of them to bytes of its own, in units of a 127th of the block's largest; so every
block holds 127 levels and the number 127, which meets a weight of zero. Then the unit is one, and
the sums are exact.
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


def multiplied(nodes: Nodes, layer: PackedLayer, x: str, rank: int) -> str:
    """Add the product of a result (*, inputs) with a layer's integer weights.

    Args:
        nodes: where it goes.
        layer: that :func:`takes_bits`.
        x, rank: floats, or whole numbers from -127 to 127, and the number of axes.
    """
    whole = layer.input.codes is not None
    bits, (outputs, inputs) = _width(layer), layer.shape
    weight = layer.integer_weight().int()
    room = _BLOCK - 1 if whole else _BLOCK
    blocks = -(-inputs // room)
    weight = torch.nn.functional.pad(weight, (0, blocks * room - inputs)).view(
        outputs, blocks, room
    )
    if whole:
        weight = torch.nn.functional.pad(weight, (0, 1))
        x = _with_127(nodes, x, rank, inputs, blocks)
    elif blocks * room != inputs:
        x = _filled(nodes, x, blocks * room - inputs)
    codes = packed_codes((weight + 2 ** (bits - 1)).numpy(), bits)
    stored = nodes.tensor(torch.from_numpy(codes).view(outputs, blocks, -1))
    ones = nodes.tensor(torch.ones(outputs * blocks))
    return nodes.add(
        "MatMulNBits",
        [x, stored, ones],
        domain="com.microsoft",
        K=blocks * _BLOCK,
        N=outputs,
        bits=bits,
        block_size=_BLOCK,
        accuracy_level=_BYTES if whole else _EXACT,
    )


def _filled(nodes: Nodes, x: str, count: int) -> str:
    """Return rows with zeros after them."""
    pads = nodes.numbers([0, count])
    return nodes.add("Pad", [x, pads, nodes.numbers(0, np.float32), nodes.numbers([-1])])


def _with_127(nodes: Nodes, x: str, rank: int, inputs: int, blocks: int) -> str:
    """Return rows in blocks of 127 numbers and the number 127."""
    room, others = _BLOCK - 1, [0] * (rank - 1)  # axes that stay
    if blocks * room != inputs:
        x = _filled(nodes, x, blocks * room - inputs)
    split = nodes.add("Reshape", [x, nodes.numbers([*others, blocks, room])])
    more = [nodes.numbers([0, 1]), nodes.numbers(room, np.float32), nodes.numbers([-1])]
    full = nodes.add("Pad", [split, *more])
    return nodes.add("Reshape", [full, nodes.numbers([*others, blocks * _BLOCK])])
