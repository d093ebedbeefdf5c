"""Weight codes as the C kernels read them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["STORED_BITS", "bit_words", "packed_rows", "sign_tiles"]

STORED_BITS = {1: 1, 2: 2, 3: 4, 4: 4, 5: 8, 6: 8, 7: 8, 8: 8}  # of codes of so many bits


def bit_words(bits: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Return 0s and 1s (..., channels) as words, the first in the lowest bit."""
    width = -bits.shape[-1] % 32
    padded = np.pad(bits, [(0, 0)] * (bits.ndim - 1) + [(0, width)])
    packed: NDArray[np.uint32] = np.packbits(padded, axis=-1, bitorder="little").view("<u4")
    return packed.astype(np.uint32)


def sign_tiles(codes: NDArray[np.uint8], tile: int) -> NDArray[np.uint32]:
    """Return one-bit codes (outputs, taps, channels) as [tile][tap][word][output of the tile]."""
    words = bit_words(codes)
    outputs, taps, count = words.shape
    padded = np.pad(words, [(0, -outputs % tile), (0, 0), (0, 0)])
    return padded.reshape(-1, tile, taps, count).transpose(0, 2, 3, 1)


def packed_rows(codes: NDArray[np.uint8], bits: int) -> tuple[NDArray[np.uint8], int]:
    """Return rows of codes, 8 / bits of them in a byte, and how many a row has with those added.

    Args:
        codes: (rows, length), below 2^bits.
        bits: 1, 2, 4 or 8.
    """
    parts = 8 // bits
    padded = np.pad(codes, [(0, 0), (0, -codes.shape[1] % parts)])
    split = padded.reshape(len(codes), parts, -1)
    places = (bits * np.arange(parts, dtype=np.uint8))[None, :, None]
    packed: NDArray[np.uint8] = np.bitwise_or.reduce(split << places, axis=1).astype(np.uint8)
    return packed, padded.shape[1]
