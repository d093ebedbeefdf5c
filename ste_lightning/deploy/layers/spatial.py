"""What packed convolutions and transposed ones share: a geometry, and the axes of their input."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from ste_lightning.deploy.layers.input_quantizers import Input
from ste_lightning.deploy.layers.packed_layer import PackedLayer
from ste_lightning.errors import require
from ste_lightning.kernels import Codes, Geometry

__all__ = ["PackedSpatial"]


class PackedSpatial(PackedLayer):
    """Base of packed layers of images, sounds and volumes.

    Args:
        input, weight, shape, groups, scaled, bias, integers: as in
            :class:`~ste_lightning.deploy.PackedLayer`.
        geometry: kernel, stride, padding and dilation.
    """

    most_dims: ClassVar[int] = 3

    def __init__(
        self,
        input: Input,
        weight: Codes,
        shape: tuple[int, ...],
        geometry: Geometry,
        groups: int = 1,
        scaled: int = False,
        bias: bool = False,
        integers: bool = False,
    ) -> None:
        super().__init__(input, weight, shape, groups, scaled, bias, integers)
        dims = len(geometry.kernel)
        require(
            tuple(shape[2:]) == geometry.kernel and 1 <= dims <= self.most_dims,
            "shape",
            tuple(shape),
            f"it does not fit the kernel {geometry.kernel}",
        )
        self.geometry = geometry

    def channel_axis(self, x: Tensor) -> int:
        """Return the axis of the input channels."""
        return x.dim() - len(self.geometry.kernel) - 1

    def check(self, x: Tensor) -> None:
        """Refuse an input of another number of axes or channels."""
        dims = len(self.geometry.kernel)
        if x.dim() not in (dims + 1, dims + 2):
            require(False, "input", tuple(x.shape), f"use {dims + 2} axes")
        self.check_channels(x, self.channel_axis(x))

    def extra_repr(self) -> str:
        """Return sizes and bits."""
        return (
            f"{self.shape[1] * self.groups}, {self.shape[0]}, kernel={self.geometry.kernel}, "
            f"weight_bits={self.weight_codes.bits}"
        )
