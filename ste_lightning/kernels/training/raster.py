"""Several images as one raster, in which a tap of a convolution's kernel is a constant shift.

Images lie one after the other: lines of W + pad pixels, H + pad lines, so that the columns and
lines between images are the padding of both neighbours.

``shape`` is (images, channels, outputs, height, width, rows, columns, kernel rows, kernel columns,
padding down, right, dilation down, right, channels last).
"""

from __future__ import annotations

from ste_lightning.kernels.jit.compiling import inlined
from ste_lightning.kernels.jit.simd import copy

__all__ = [
    *("FIELDS", "GROUP", "TERMS", "area_of", "blocks_of", "fill_raster", "lead_of", "line_of"),
    *("padded", "several_of", "shift_of"),
]

FIELDS = 14
TERMS, GROUP = 32, 32  # pixels of a block, channels of a group
_PIXELS = 1 << 16  # numbers of a raster, so that its tiles stay in the second cache


@inlined
def padded(count):  # type: ignore[no-untyped-def]
    """Return channels in whole groups."""
    return (count + GROUP - 1) // GROUP * GROUP


@inlined
def line_of(shape):  # type: ignore[no-untyped-def]
    return shape[4] + shape[10]


@inlined
def area_of(shape):  # type: ignore[no-untyped-def]
    """Return the pixels of an image with its padding."""
    return (shape[3] + shape[9]) * line_of(shape)


@inlined
def shift_of(shape, tap):  # type: ignore[no-untyped-def]
    """Return where a tap reads its input, relative to its output."""
    down, right = tap // shape[8] * shape[11] - shape[9], tap % shape[8] * shape[12] - shape[10]
    return down * line_of(shape) + right


@inlined
def lead_of(shape):  # type: ignore[no-untyped-def]
    """Return pixels before the first image: what any shift needs, whole blocks."""
    most = max(-shift_of(shape, 0), shift_of(shape, shape[7] * shape[8] - 1)) + 1
    return (most + TERMS - 1) // TERMS * TERMS


@inlined
def several_of(shape, channels):  # type: ignore[no-untyped-def]
    """Return how many images a raster has."""
    return min(max(_PIXELS // (channels * area_of(shape)), 1), shape[0])


@inlined
def blocks_of(shape, several):  # type: ignore[no-untyped-def]
    """Return blocks of 32 pixels from the first image's first pixel to the last one's last."""
    return (several * area_of(shape) + TERMS - 1) // TERMS


@inlined
def fill_raster(shape, x, first, images, channels, rows, columns, length, raster):  # type: ignore[no-untyped-def]
    """Copy images to the raster, (channels, length) or, channels last, (length, channels)."""
    line, area, start, wide = line_of(shape), area_of(shape), lead_of(shape), padded(channels)
    for m in range(images):
        for y in range(rows):
            to = start + m * area + y * line
            if shape[13]:
                at = ((first + m) * rows + y) * columns * channels
                if wide == channels:
                    copy(x, at, raster, to * wide, columns * channels)
                else:
                    for i in range(columns):
                        copy(x, at + i * channels, raster, (to + i) * wide, channels)
            else:
                for c in range(channels):
                    at = (((first + m) * channels + c) * rows + y) * columns
                    copy(x, at, raster, c * length + to, columns)
