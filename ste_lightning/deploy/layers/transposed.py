"""The packed transposed convolution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor

from ste_lightning.deploy.layers.input_quantizers import Input
from ste_lightning.deploy.layers.spatial import PackedSpatial
from ste_lightning.deploy.layers.torch_and_gpu import computed
from ste_lightning.errors import require
from ste_lightning.kernels import Codes, Geometry

__all__ = ["PackedConvTranspose", "outputs_first"]


def outputs_first(weight: Tensor, groups: int) -> Tensor:
    """Turn (inputs, outputs / groups, *kernel) into (outputs, inputs / groups, *kernel), or back.

    It is its own inverse.
    """
    inputs, outputs, *kernel = weight.shape
    split = weight.reshape(groups, inputs // groups, outputs, *kernel)
    return split.transpose(1, 2).reshape(groups * outputs, inputs // groups, *kernel)


class PackedConvTranspose(PackedSpatial):
    """y = scale conv_transpose(q(x), W) + bias with packed integers W, in one or two dimensions.

    The integers are multiplied by torch, exactly; there is no kernel of bits for it.

    Args:
        input, weight, shape, groups, scaled, bias, integers: as in
            :class:`~ste_lightning.deploy.PackedLayer`; the shape is (outputs, inputs / groups,
            *kernel), which is not torch's for this layer.
        geometry: kernel, stride, padding (alike on both sides) and dilation.
        output_padding: how much one side of the output grows.
    """

    has_rows: ClassVar[bool] = False
    most_dims: ClassVar[int] = 2

    def __init__(
        self,
        input: Input,
        weight: Codes,
        shape: tuple[int, ...],
        geometry: Geometry,
        output_padding: tuple[int, ...],
        groups: int = 1,
        scaled: int = False,
        bias: bool = False,
        integers: bool = False,
    ) -> None:
        super().__init__(input, weight, shape, geometry, groups, scaled, bias, integers)
        self.output_padding = tuple(output_padding)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Return the transposed convolution, in the dtype of ``x``.

        Args:
            x: (*, channels, *size).
            output_size: the wanted size, among those that the stride leaves open.
        """
        self.check(x)
        return self.called(x, self._growth(x, output_size))

    def result_like(self, x: Tensor, growth: Sequence[int] = ()) -> Tensor:
        """Return an empty tensor of the result's shape and type."""
        self.check(x)
        g = self.geometry
        dims = len(g.kernel)
        sizes = [
            (n - 1) * s - 2 * p[0] + d * (k - 1) + 1 + more
            for n, s, p, d, k, more in zip(
                x.shape[-dims:],
                *(g.stride, g.padding, g.dilation, g.kernel, growth or self.output_padding),
                strict=True,
            )
        ]
        return x.new_empty([*x.shape[: x.dim() - dims - 1], self.shape[0], *sizes])

    def computed(self, x: Tensor, growth: Sequence[int] = ()) -> Tensor:
        """Return the transposed convolution, in the dtype of ``x``."""
        self.check(x)
        return computed(self, x, output_padding=tuple(growth or self.output_padding))

    def _growth(self, x: Tensor, wanted: list[int] | None) -> tuple[int, ...]:
        if wanted is None:
            return self.output_padding
        g = self.geometry
        growth = tuple(
            size - ((n - 1) * s - 2 * p[0] + d * (k - 1) + 1)
            for size, n, k, s, p, d in zip(
                wanted[-len(g.kernel) :],
                x.shape[-len(g.kernel) :],
                *(g.kernel, g.stride, g.padding, g.dilation),
                strict=True,
            )
        )
        require(
            all(0 <= n < max(s, 2) for n, s in zip(growth, g.stride, strict=True)),
            "output_size",
            tuple(wanted),
            "the stride does not leave it open",
        )
        return growth

    def torch_shape(self) -> tuple[int, ...]:
        """Return (inputs, outputs / groups, *kernel)."""
        outputs, inputs, *kernel = self.shape
        return (inputs * self.groups, outputs // self.groups, *kernel)

    def product(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, pad: float, **options: Any
    ) -> Tensor:
        """Return the transposed convolution."""
        geometry = self.geometry
        convolve = (F.conv_transpose1d, F.conv_transpose2d)[len(geometry.kernel) - 1]
        y: Tensor = convolve(
            x,
            outputs_first(weight, self.groups),
            bias,
            geometry.stride,
            tuple(p[0] for p in geometry.padding),
            options["output_padding"],
            self.groups,
            geometry.dilation,
        )
        return y
