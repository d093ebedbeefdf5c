"""Weights as signed bytes, and which format's sums hold their products."""

from __future__ import annotations

from dataclasses import dataclass

from ste_lightning.kernels.layout.integer_codes import Codes

__all__ = ["Stored", "fitting", "steps_in_16_bits", "stored", "sums_fit_16_bits"]


@dataclass(frozen=True)
class Stored:
    """How a byte stands for a weight: ``codes.step * byte + codes.offset``.

    Attributes:
        codes: that.
        step, offset: the byte of a code c is ``step c + offset``.
        largest: of the bytes' absolute values.
    """

    codes: Codes
    step: int
    offset: int
    largest: int


def _ends(codes: Codes) -> tuple[int, int]:
    return codes.offset, codes.offset + codes.step * (2**codes.bits - 1)


def sums_fit_16_bits(inputs: Codes, weights: Codes, length: int) -> bool:
    """Return whether 16 signed bits hold every sum of ``length`` products of codes and weights."""
    largest = max(abs(end) for end in _ends(weights)) * int(2**inputs.bits - 1)
    return length * largest < 2**15


def stored(weights: Codes, highest: int | None = None) -> Stored:
    """Return the signed bytes for weights: their values, which need no sums of the inputs.

    Where the values do not fit, or exceed the codes, it is the codes less half their range.

    Args:
        weights: what the codes stand for.
        highest: of the codes; default the largest that their bits hold. Symmetric weights of 8
            bits, -127 to 127, leave one out.
    """
    ends = _ends(weights)
    if highest is not None:
        ends = (ends[0], weights.offset + weights.step * highest)
    largest = max(abs(end) for end in ends)
    if largest <= 2**weights.bits and ends[0] >= -128 and ends[1] <= 127:
        return Stored(Codes(weights.bits, 1, 0), weights.step, weights.offset, largest)
    half = 2 ** (weights.bits - 1)
    moved = Codes(weights.bits, weights.step, weights.offset + weights.step * half)
    return Stored(moved, 1, -half, half)


def steps_in_16_bits(inputs: Codes, weights: Stored) -> int:
    """Return how many sums of two products 16 signed bits hold."""
    largest: int = (2**inputs.bits - 1) * weights.largest
    return (2**15 - 1) // (2 * largest)


def fitting(format: str, inputs: Codes, weights: Codes) -> str:
    """Return the format whose sums hold these digits.

    Widening the 16-bit sums at every step costs as much as products of words.
    """
    largest = max(abs(end) for end in _ends(weights))
    if format == "depthwise" and largest >= 2**15:
        format = "digits"  # its lanes hold words
    if weights.bits > {"int1": 1, "int2": 2, "int4": 4}.get(format.removesuffix("_tiles"), 8):
        format = "int8_tiles" if format.endswith("_tiles") else "int8"
    narrow = format == "digits" and steps_in_16_bits(inputs, stored(weights)) < 2
    return "wide_digits" if narrow else format
