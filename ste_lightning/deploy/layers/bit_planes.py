"""Weights as they are stored: unsigned codes, bit plane after bit plane, eight bits a byte."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ste_lightning.errors import require
from ste_lightning.kernels import SIGNS, STEPS, Codes

__all__ = ["codes_of", "packed_size", "to_bits", "to_codes"]


def packed_size(count: int, bits: int) -> int:
    """Return how many bytes ``count`` codes of ``bits`` bits take."""
    return bits * -(-count // 8)


def to_bits(codes: Tensor, bits: int) -> Tensor:
    """Pack unsigned codes.

    Args:
        codes: uint8, any shape, all below 2^bits.
        bits: bits per code.

    Returns:
        Flat uint8: for each bit, lowest first, that bit of all codes in order, the first code in
        the lowest bit of a byte; each plane ends on a byte.
    """
    flat = codes.cpu().contiguous().numpy().ravel()
    planes = [np.packbits((flat >> bit) & 1, bitorder="little") for bit in range(bits)]
    return torch.from_numpy(np.concatenate(planes))


def to_codes(packed: Tensor, bits: int, shape: tuple[int, ...]) -> Tensor:
    """Undo :func:`to_bits`.

    Raises:
        ConfigurationError: if the number of bytes is not what the shape needs.
    """
    count = math.prod(shape)
    require(
        packed.numel() == packed_size(count, bits),
        "packed weights",
        f"{packed.numel()} bytes",
        f"{count} codes of {bits} bits take {packed_size(count, bits)}",
    )
    places = torch.arange(8, dtype=torch.uint8, device=packed.device)
    planes = (packed.view(bits, -1, 1) >> places & 1).view(bits, -1)[:, :count]
    codes = planes[0]
    for bit in range(1, bits):
        codes = codes | planes[bit] << bit
    return codes.reshape(shape)


def codes_of(levels: Tensor, declared_bits: float) -> tuple[Tensor, Codes]:
    """Return integer levels as unsigned codes, and what those stand for.

    Args:
        levels: integers of a quantizer's grid.
        declared_bits: the quantizer's bit width; the codes take that many bits, rounded up, or
            more if the levels need them.

    Raises:
        ConfigurationError: for levels that need more than eight bits.
    """
    if levels.numel() == 0:
        return levels.to(torch.uint8), SIGNS
    if declared_bits <= 1:
        for codes in (SIGNS, STEPS):
            if bool(((levels == codes.offset) | (levels == codes.offset + codes.step)).all()):
                return ((levels - codes.offset) // codes.step).to(torch.uint8), codes
    lowest = int(levels.min())
    span = (levels - lowest).long()
    step = max(math.gcd(*torch.unique(span).tolist()), 1)
    needed = int(span.max()) // step
    bits = max(needed.bit_length(), math.ceil(declared_bits), 1)
    require(
        needed < 256,
        "levels",
        f"{lowest}..{int(levels.max())}",
        "they need more than 8 bits; use a narrower quantizer",
    )
    return (span // step).to(torch.uint8), Codes(min(bits, 8), step, lowest)
