"""Weights as the micro-kernels read them: channels side by side, unit of bits by unit of bits."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "DEPTHWISE_LANES",
    "LAYOUTS",
    "TABLES",
    "TILED",
    "Layout",
    "aligned",
    "lane_order",
    "lay_out",
    "lay_out_depthwise",
    "lay_out_digits",
    "lay_out_packed",
    "terms_of_depthwise",
]

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
        unit_channels: input channels of a unit.
        digit: bits of the weights that a plane holds.
        input_digit: bits of the inputs that a plane holds.
        block: most units that one pass over a panel sums; their weights fit the first cache.
        tiles: whether products of several rows take tile registers.
    """

    number: int
    width: int
    unit: int
    row_unit: int
    rows: int
    unit_channels: int
    digit: int = 1
    input_digit: int = 1
    block: int = 0
    tiles: bool = False

    @property
    def of_products(self) -> bool:
        """Whether the micro-kernel sums products of codes instead of counting bits."""
        return self.number >= 3

    @property
    def of_digits(self) -> bool:
        """Whether a weight is one signed byte."""
        return self.digit == 8

    @property
    def by_dot(self) -> bool:
        """Whether four products and their sum are one instruction."""
        return self.number >= 7

    @property
    def packed(self) -> bool:
        """Whether weights have tables that decode them, see :func:`lay_out_packed`."""
        return self.number > 7

    def panel_bytes(self, units: int) -> int:
        """Return the bytes of a panel (and plane) of ``units`` units."""
        if self.packed:
            return -(-units * self.digit // 8) * 128
        return self.width * units * self.unit

    def units(self, channels: int) -> int:
        """Return how many units hold ``channels`` channels."""
        return -(-channels // self.unit_channels)


DEPTHWISE_LANES = 32  # outputs that a vector of the format ``depthwise`` holds

LAYOUTS = {
    "lookup": Layout(0, 64, 1, 1, 4, 8),
    "bytes": Layout(1, 64, 1, 1, 4, 8),
    "words": Layout(2, 32, 4, 4, 8, 32),
    "digits": Layout(3, 32, 4, 4, 32, 4, 8, 8, 256),
    "wide_digits": Layout(4, 32, 2, 4, 32, 2, 8, 8, 512),
    "lookup_2x1": Layout(5, 64, 1, 4, 32, 8, 1, 2, 250),
    "depthwise": Layout(6, 32, 1, 1, 1, 1, 8, 8),
    "int8": Layout(7, 32, 4, 4, 12, 4, 8, 8),
    "int4": Layout(8, 32, 4, 4, 12, 4, 4, 8),
    "int2": Layout(9, 32, 4, 4, 12, 4, 2, 8),
    "int1": Layout(10, 32, 4, 4, 12, 4, 1, 8),
}
TILED = {name: f"{name}_tiles" for name in ("int8", "int4", "int2", "int1")}
LAYOUTS |= {tiled: replace(LAYOUTS[name], tiles=True) for name, tiled in TILED.items()}
TABLES = 64  # bytes of the tables before the panels of the formats ``int4``, ``int2`` and ``int1``


def aligned(size: int) -> Bytes:
    """Return ``size`` zero bytes that start at a cache line, with 1024 readable ones after them."""
    room = np.zeros(size + 64 + 1024, np.uint8)
    start = -room.ctypes.data % 64
    return room[start : start + size]


def lay_out(codes: NDArray[np.uint8], bits: int, layout: Layout) -> Bytes:
    """Return the panels of a group's weights, plane of bits (or digits) after plane.

    Args:
        codes: (outputs, taps, channels) unsigned codes below 2^bits.
        bits: bits of a code.
        layout: the micro-kernel's layout.

    Returns:
        Flat bytes: (plane, panel, unit, channel of the panel), starting at a cache line.
    """
    outputs, taps, channels = codes.shape
    digit, planes = layout.digit, -(-bits // layout.digit)
    padded = layout.units(channels) * layout.unit_channels
    panels = -(-outputs // layout.width)
    units = taps * layout.units(channels)
    out = aligned(planes * panels * layout.width * units * layout.unit)
    target = out.reshape(planes, panels, units, layout.width, layout.unit)
    order = lane_order(layout)
    for plane in range(planes):
        field = np.zeros((panels * layout.width, taps, padded, digit), np.uint8)
        for bit in range(digit):
            field[:outputs, :, :channels, bit] = (codes >> (plane * digit + bit)) & 1
        packed = np.packbits(field.reshape(panels, layout.width, -1), axis=2, bitorder="little")
        packed = packed.reshape(panels, layout.width, units, layout.unit)
        target[plane] = packed[:, order].transpose(0, 2, 1, 3)
    return out


def lay_out_digits(values: NDArray[np.int8], layout: Layout) -> Bytes:
    """Return the panels of a group's weights, a signed byte each.

    Args:
        values: (outputs, taps, channels) integers.
        layout: that of the format ``digits`` or ``wide_digits``.

    Returns:
        Flat bytes: (panel, half of the panel, unit, 16 outputs, channels of a unit).
    """
    outputs, taps, channels = values.shape
    per_tap, panels = layout.units(channels), -(-outputs // layout.width)
    units, size = taps * per_tap, layout.unit_channels
    out = aligned(panels * layout.width * units * size)
    padded = np.zeros((panels * layout.width, taps, per_tap * size), np.int8)
    padded[:outputs, :, :channels] = values
    split = padded.reshape(panels, 2, 16, units, size)
    target = out.view(np.int8).reshape(panels, 2, units, 16, size)
    target[:] = split.transpose(0, 1, 3, 2, 4)
    return out


def lay_out_packed(codes: NDArray[np.uint8], step: int, offset: int, layout: Layout) -> Bytes:
    """Return the panels of a group's weights at the width of the format.

    A byte holds the codes of 8 / b units, b bits each, the lowest those of the first. Before the
    panels are 4 / b tables of 16 bytes: the k-th has, for every four bits, what the k-th code in
    them stands for.

    Args:
        codes: (outputs, taps, channels) unsigned codes below 2^b.
        step, offset: a code c stands for the signed byte ``step c + offset``.
        layout: that of the format ``int4``, ``int2`` or ``int1``.

    Returns:
        Flat bytes: 64 of tables, then (panel, half of the panel, 8 / b units, 16 outputs, channels
        of a unit).
    """
    outputs, taps, channels = codes.shape
    bits, size = layout.digit, layout.unit_channels
    per, per_tap, panels = 8 // bits, layout.units(channels), -(-outputs // layout.width)
    units = taps * per_tap
    groups = -(-units // per)
    padded = np.zeros((panels * layout.width, taps, per_tap * size), np.uint8)
    padded[:outputs, :, :channels] = codes
    whole = np.zeros((panels, 2, 16, groups * per, size), np.uint8)
    whole[:, :, :, :units] = padded.reshape(panels, 2, 16, units, size)
    parts = whole.reshape(panels, 2, 16, groups, per, size)
    out = aligned(TABLES + panels * layout.panel_bytes(units))
    target = out[TABLES:].reshape(panels, 2, groups, 16, size)
    for k in range(per):
        target |= parts[:, :, :, :, k].transpose(0, 1, 3, 2, 4) << np.uint8(bits * k)
    nibble = np.arange(16)
    for k in range(4 // bits):
        code = nibble >> (bits * k) & (2**bits - 1)
        out[16 * k : 16 * k + 16] = (step * code + offset).astype(np.int8).view(np.uint8)
    return out


def lay_out_depthwise(values: NDArray[np.int16], narrow: bool) -> Bytes:
    """Return the weights of groups with few channels; the lanes are all groups' outputs.

    Args:
        values: (all outputs, taps, channels) integers.
        narrow: whether sums have 16 bits; otherwise taps are taken in pairs.

    Returns:
        Flat bytes of int16: (32 outputs, pair of taps, tap, output), or (32 outputs, pair of taps,
        output, tap). Channels are further taps.
    """
    outputs, lanes = len(values), DEPTHWISE_LANES
    terms = values.reshape(outputs, -1)
    pairs, blocks = -(-terms.shape[1] // 2), -(-outputs // lanes)
    padded = np.zeros((blocks * lanes, 2 * pairs), np.int16)
    padded[:outputs, : terms.shape[1]] = terms
    out = aligned(2 * padded.size)
    split = padded.reshape(blocks, lanes, pairs, 2).transpose(0, 2, *((3, 1) if narrow else (1, 3)))
    out.view(np.int16)[:] = split.ravel()
    return out


def terms_of_depthwise(panels: Bytes, outputs: int, terms: int, narrow: bool) -> NDArray[np.int16]:
    """Return the weights that :func:`lay_out_depthwise` laid out, (outputs, taps x channels)."""
    lanes, pairs = DEPTHWISE_LANES, -(-terms // 2)
    shape, order = (-1, pairs, lanes, 2), (0, 2, 1, 3)
    if narrow:
        shape, order = (-1, pairs, 2, lanes), (0, 3, 1, 2)
    values = panels.view(np.int16).reshape(shape).transpose(order)
    return np.ascontiguousarray(values.reshape(-1, 2 * pairs)[:outputs, :terms])


def lane_order(layout: Layout) -> NDArray[np.int64]:
    """Return the channel of each lane: byte lanes are summed even ones first, odd ones after."""
    lane = np.arange(layout.width)
    if layout.unit != 1:
        return lane
    return lane // 32 * 32 + lane % 2 * 16 + lane % 32 // 2
