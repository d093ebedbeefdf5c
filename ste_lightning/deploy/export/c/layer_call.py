"""A packed layer as it is called in C."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ste_lightning.deploy.export.c.packed_weights import STORED_BITS
from ste_lightning.deploy.export.c.program import Program, Stored
from ste_lightning.deploy.export.c.shapes import Window
from ste_lightning.deploy.layers.bit_planes import to_codes
from ste_lightning.deploy.layers.linear_and_conv import PackedConv
from ste_lightning.deploy.layers.packed_layer import PackedLayer

__all__ = ["LayerCall", "worth"]


def worth(codes: Any) -> str:
    """Return the C arguments that say what codes stand for."""
    return f"{codes.step}, {codes.offset}"


@dataclass(frozen=True)
class LayerCall:
    """One call of a packed layer.

    Attributes:
        program: where it goes.
        layer: which.
        source, result: what it reads and makes.
        label: its name in the network.
        name: in C.
        window: where it reads.
    """

    program: Program
    layer: PackedLayer
    source: str
    result: str
    label: str
    name: str
    window: Window

    @property
    def outputs(self) -> int:
        """How many outputs a pixel has."""
        return self.layer.shape[0]

    @property
    def spatial(self) -> bool:
        """Whether floats are stored channel by channel, as those of convolutions."""
        return isinstance(self.layer, PackedConv)

    @property
    def bits(self) -> int:
        """How many bits a weight is stored in."""
        return STORED_BITS[self.layer.weight_codes.bits]

    @property
    def pad(self) -> float:
        """The level outside the image."""
        return float(self.layer.pad_level() or 0.0)

    def codes(self) -> NDArray[np.uint8]:
        """Return the weight codes in the layer's own shape."""
        layer = self.layer
        found: NDArray[np.uint8] = to_codes(
            layer.weight_bits, layer.weight_codes.bits, layer.shape
        ).numpy()
        return found

    def codes_by_tap(self) -> NDArray[np.uint8]:
        """Return the weight codes (outputs, taps, channels)."""
        shape = (self.outputs, self.window.channels, self.window.taps)
        return self.codes().reshape(shape).transpose(0, 2, 1)

    def array(self, role: str, values: NDArray[Any] | Tensor | None) -> str:
        """Return the name of a constant array of the layer, ``NULL`` for none."""
        if isinstance(values, Tensor):
            values = values.detach().float().numpy()
        return self.program.array(f"{self.name}_{role}", values)

    def add(
        self,
        stored: Stored,
        pixel: str,
        kernels: Sequence[str],
        temporaries: Sequence[tuple[str, str, int]],
        declared: str | None = None,
    ) -> None:
        """Add what is computed for every pixel.

        Args:
            stored: how the result is stored.
            pixel: statements for one pixel.
            kernels, temporaries: as of :meth:`.Program.add`.
            declared: what comes before the loop, by lines; by default the window, ``at``.
        """
        lines = "\n".join(f"    {line}" for line in pixel.splitlines())
        body = (
            f"{self.window.declared() if declared is None else declared}"
            f"for (int pixel = 0; pixel < {self.window.positions}; ++pixel) {{\n{lines}\n}}"
        )
        bits = self.layer.weight_codes.bits
        comment = f"{self.label}: {self.window.described}, {bits}-bit weights"
        self.program.add(
            self.name, comment, [self.source], self.result, stored, body, kernels, temporaries
        )

    def for_groups(self, lines: str) -> str:
        """Return statements, repeated for every group where there are several."""
        if self.window.groups == 1:
            return lines
        inside = "\n".join(f"    {line}" for line in lines.splitlines())
        return f"for (int group = 0; group < {self.window.groups}; ++group) {{\n{inside}\n}}"

    def of_group(self, name: str, each: int) -> str:
        """Return a pointer to a group's part of an array."""
        return name if self.window.groups == 1 else f"{name} + group * {each}"

    @property
    def group(self) -> str:
        """The group's number in C."""
        return "0" if self.window.groups == 1 else "group"
