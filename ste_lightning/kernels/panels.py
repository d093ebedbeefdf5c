"""Weights as the micro-kernels read them: channels side by side, unit of bits by unit of bits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["LAYOUTS", "Layout", "aligned", "lane_order", "lay_out", "lay_out_digits"]

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Layout:
    """How a format stores bits.

    Attributes:
        number: the format's number in compiled code.
        width: channels in a panel.
        unit: bytes of a panel's channel per step; a tap's channels fill whole units.
        row_unit: bytes of a row (the inputs) per step.
        rows: rows that one call of the micro-kernel takes.
    """

    number: int
    width: int
    unit: int
    row_unit: int
    rows: int

    def units(self, channels: int) -> int:
        """Return how many units hold ``channels`` channels: of a bit each, or digits of a byte."""
        return -(-channels // (4 if self.number == 3 else 8 * self.unit))


LAYOUTS = {
    "lookup": Layout(0, 64, 1, 1, 4),
    "bytes": Layout(1, 64, 1, 1, 4),
    "words": Layout(2, 32, 4, 4, 8),
    "digits": Layout(3, 32, 4, 4, 2),
}


def aligned(size: int) -> Bytes:
    """Return ``size`` zero bytes that start at a cache line, with 128 readable ones after them."""
    room = np.zeros(size + 64 + 128, np.uint8)
    start = -room.ctypes.data % 64
    return room[start : start + size]


def lay_out(codes: NDArray[np.uint8], bits: int, layout: Layout) -> Bytes:
    """Return the panels of a group's weights, bit plane after bit plane.

    Args:
        codes: (outputs, taps, channels) unsigned codes below 2^bits.
        bits: number of bit planes.
        layout: the micro-kernel's layout.

    Returns:
        Flat bytes: (plane, panel, unit, channel of the panel), starting at a cache line.
    """
    outputs, taps, channels = codes.shape
    padded = layout.units(channels) * layout.unit * 8
    panels = -(-outputs // layout.width)
    units = taps * layout.units(channels)
    out = aligned(bits * panels * layout.width * units * layout.unit)
    planes = out.reshape(bits, panels, units, layout.width, layout.unit)
    order = lane_order(layout)
    for bit in range(bits):
        plane = np.zeros((panels * layout.width, taps, padded), np.uint8)
        plane[:outputs, :, :channels] = (codes >> bit) & 1
        packed = np.packbits(plane.reshape(panels, layout.width, -1), axis=2, bitorder="little")
        packed = packed.reshape(panels, layout.width, units, layout.unit)
        planes[bit] = packed[:, order].transpose(0, 2, 1, 3)
    return out


def lay_out_digits(codes: NDArray[np.uint8], digit: int, planes: int, layout: Layout) -> Bytes:
    """Return the panels of a group's weights, ``digit`` bits of each code in a byte.

    Args:
        codes: (outputs, taps, channels) unsigned codes.
        digit: bits in a byte.
        planes: how many digits a code has, the lowest first.
        layout: that of the format ``digits``.

    Returns:
        Flat bytes: (plane, panel, unit, output of the panel, four channels).
    """
    outputs, taps, channels = codes.shape
    per_tap, panels = layout.units(channels), -(-outputs // layout.width)
    out = aligned(planes * panels * layout.width * taps * per_tap * 4)
    target = out.reshape(planes, panels, taps * per_tap, layout.width, 4)
    for plane in range(planes):
        padded = np.zeros((panels * layout.width, taps, per_tap * 4), np.uint8)
        padded[:outputs, :, :channels] = (codes >> (plane * digit)) & (2**digit - 1)
        split = padded.reshape(panels, layout.width, taps * per_tap, 4)
        target[plane] = split.transpose(0, 2, 1, 3)
    return out


def lane_order(layout: Layout) -> NDArray[np.int64]:
    """Return the channel of each lane: byte lanes are summed even ones first, odd ones after."""
    lane = np.arange(layout.width)
    if layout.unit != 1:
        return lane
    return lane // 32 * 32 + lane % 2 * 16 + lane % 32 // 2
