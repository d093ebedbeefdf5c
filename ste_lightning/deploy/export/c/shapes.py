"""Where a layer reads: its window over an image, in numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ste_lightning.deploy.export.c.program import Stored
from ste_lightning.deploy.layers.linear_and_conv import PackedConv
from ste_lightning.deploy.layers.packed_layer import PackedLayer

__all__ = ["Window", "shape_of"]


@dataclass(frozen=True)
class Window:
    """A window that moves over an image; pairs are (vertical, horizontal).

    Attributes:
        size: of the image.
        channels, outputs: of a group.
        kernel, stride, padding, dilation: ``padding`` is that above and at the left.
        out: the size of the result.
        groups: of channels.
    """

    size: tuple[int, int]
    channels: int
    outputs: int
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    out: tuple[int, int] = (1, 1)
    groups: int = 1

    @property
    def taps(self) -> int:
        """How many pixels it covers."""
        return self.kernel[0] * self.kernel[1]

    @property
    def positions(self) -> int:
        """How many places it has."""
        return self.out[0] * self.out[1]

    @property
    def pads(self) -> bool:
        """Whether it ever reaches outside the image."""
        return any(
            p > 0 or (o - 1) * s - p + (k - 1) * d >= n
            for p, o, s, k, d, n in zip(
                self.padding, self.out, self.stride, self.kernel, self.dilation, self.size,
                strict=True,
            )
        )  # fmt: skip

    @property
    def described(self) -> str:
        """In words."""
        before, after = self.channels * self.groups, self.outputs * self.groups
        kernel = f", {self.kernel[0]}x{self.kernel[1]}" if self.taps > 1 else ""
        groups = f", {self.groups} groups" if self.groups > 1 else ""
        return f"{before} -> {after} channels{kernel}{groups}, {self.positions} pixels"

    def one_pixel(self) -> Window:
        """Return the window of one row."""
        return replace(self, size=(1, 1), out=(1, 1))

    def declared(self) -> str:
        """Return the C declaration of ``at``."""
        numbers = (
            *(*self.size, self.channels, *self.kernel, *self.stride, *self.padding),
            *(*self.dilation, *self.out, self.outputs, self.groups),
        )
        return f"static const shape at = {{{', '.join(map(str, numbers))}}};\n"


def pair(values: Sequence[int], first: int) -> tuple[int, int]:
    """Return two numbers; of one, the horizontal one, after ``first``."""
    return (first, values[0]) if len(values) == 1 else (values[0], values[1])


def shape_of(layer: PackedLayer, x: Stored) -> Window:
    """Return the window of a packed layer over what it reads."""
    if isinstance(layer, PackedConv):
        g = layer.geometry
        size = (x.height, x.width)
        out = g.output(size[-len(g.kernel) :])
        before = [p[0] for p in g.padding]
        return Window(
            size, layer.shape[1], layer.shape[0] // layer.groups, pair(g.kernel, 1),
            pair(g.stride, 1), pair(before, 0), pair(g.dilation, 1), pair(out, 1), layer.groups,
        )  # fmt: skip
    outputs, inputs = layer.shape
    if inputs == x.channels:  # rows
        return Window((1, x.pixels), inputs, outputs, out=(1, x.pixels))
    size = (x.height, x.width)  # of a flattened image
    return Window(size, x.channels, outputs, kernel=size)
