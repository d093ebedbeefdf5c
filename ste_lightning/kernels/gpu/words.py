"""Packed weights as the GPU's kernels read them: 32 bits of a row in a word, or a byte each."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ste_lightning.kernels.layout.integer_codes import Codes

__all__ = ["DeviceWeights", "on_device"]

MOST_PLANES = 4  # more bits take a byte each: decoding them costs more than reading


@dataclass(frozen=True)
class DeviceWeights:
    """A weight matrix of integers ``step * stored + zero``.

    Attributes:
        data: int32 words (planes, outputs, words), bit plane after bit plane, the first column
            in the lowest bit; or int8 (outputs, length).
        planes: bits of a weight, 0 where ``data`` is int8.
        outputs, length: the matrix's rows and columns.
        step, zero: what a stored number stands for.
        sums: int32 per output, the sum of its integers.
    """

    data: Tensor
    planes: int
    outputs: int
    length: int
    step: int
    zero: int
    sums: Tensor


def on_device(packed: Tensor, codes: Tensor, weights: Codes) -> DeviceWeights:
    """Return weights for the GPU's kernels, on the device of ``packed``.

    Args:
        packed: flat uint8, bit plane after bit plane of all codes in order, each plane ending on
            a byte. Where a row is a whole number of words, these bytes themselves are used.
        codes: the same codes, uint8 (outputs, length).
        weights: what the codes stand for.
    """
    outputs, length = codes.shape
    sums = weights.step * codes.sum(1, dtype=torch.int32) + weights.offset * length
    if weights.bits > MOST_PLANES:
        stored = (codes.to(torch.int16) - 128).to(torch.int8)
        zero = weights.offset + 128 * weights.step
        return DeviceWeights(stored, 0, outputs, length, weights.step, zero, sums.int())
    if length % 32 == 0 and packed.data_ptr() % 4 == 0:
        words = packed.view(torch.int32).view(weights.bits, outputs, length // 32)
    else:
        words = torch.stack([_words(codes >> bit & 1) for bit in range(weights.bits)])
    step, zero = weights.step, weights.offset
    return DeviceWeights(words, weights.bits, outputs, length, step, zero, sums.int())


def _words(bits: Tensor) -> Tensor:
    """Pack rows of bits into int32 words, the last one padded with zeros."""
    outputs, length = bits.shape
    padded = torch.nn.functional.pad(bits, (0, -length % 32)).view(outputs, -1, 4, 8)
    place = torch.arange(8, dtype=torch.uint8, device=bits.device)
    octets = (padded << place).sum(-1, dtype=torch.uint8)
    return octets.view(torch.int32).squeeze(-1)
