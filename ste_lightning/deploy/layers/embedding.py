"""The packed embedding table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from ste_lightning.deploy.layers.bit_planes import packed_size
from ste_lightning.deploy.layers.input_quantizers import FloatInput
from ste_lightning.deploy.layers.packed_layer import PackedLayer
from ste_lightning.errors import ConfigurationError, require
from ste_lightning.kernels import Codes

__all__ = ["PackedEmbedding"]


class PackedEmbedding(PackedLayer):
    """y = scale W[index]: the rows that are asked for are decoded, the table stays packed.

    Args:
        weight: what the codes stand for.
        shape: (rows, width).
        scaled: how many scales a row has, as in :class:`PackedLayer`.
    """

    has_rows: ClassVar[bool] = False

    def __init__(self, weight: Codes, shape: tuple[int, ...], scaled: int = False) -> None:
        super().__init__(FloatInput(), weight, shape, scaled=scaled)
        require(len(shape) == 2, "shape", tuple(shape), "a table has rows and a width")

    def forward(self, index: Tensor) -> Tensor:
        """Return the rows at ``index`` (any shape, integers), float32.

        Raises:
            ConfigurationError: for something else than integers, or one outside the table (on
                the CPU; a GPU is not asked).
        """
        require(
            not index.is_floating_point() and index.dtype != torch.bool,
            "index",
            index.dtype,
            "an embedding takes integers",
        )
        return self.called(index)

    def result_like(self, x: Tensor, growth: Sequence[int] = ()) -> Tensor:
        """Return an empty tensor of the result's shape and type."""
        if x.is_floating_point():
            raise ConfigurationError("an embedding takes integers.")
        return x.new_empty([*x.shape, self.shape[1]], dtype=self._dtype())

    def _dtype(self) -> torch.dtype:
        return torch.float32 if self.scale is None else self.scale.dtype

    def computed(self, x: Tensor, growth: Sequence[int] = ()) -> Tensor:
        """Return the rows at the indices ``x``."""
        index, (rows, width) = x, self.shape
        if index.device.type == "cpu" and index.numel():
            low, high = (int(v) for v in index.aminmax())
            require(low >= 0 and high < rows, "index", (low, high), f"the table has {rows} rows")
        codes = self._codes(index.long().reshape(-1, 1) * width)
        y = (codes.float() * self.weight_codes.step + self.weight_codes.offset).view(
            *index.shape, width
        )
        if self.scale is None:
            return y
        count = self.scale[0].numel()
        groups = y.view(*index.shape, count, width // count)
        scaled: Tensor = groups * self.scale[index.long()].view(*index.shape, count, 1)
        return scaled.view(y.shape)

    def _codes(self, first: Tensor) -> Tensor:
        """Return the codes of the rows that begin at the places ``first`` of a bit plane."""
        rows, width = self.shape
        plane = packed_size(rows * width, 1)
        at = first + torch.arange(width, device=first.device)
        place, octet = (at & 7).to(torch.uint8), at >> 3
        codes = torch.zeros_like(place)
        for bit in range(self.weight_codes.bits):
            codes = codes | (self.weight_bits[octet + bit * plane] >> place & 1) << bit
        return codes

    def product(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, pad: float, **options: Any
    ) -> Tensor:
        """Return the product of one-hot rows ``x`` with the table."""
        return x @ weight

    def extra_repr(self) -> str:
        """Return sizes and bits."""
        return f"{self.shape[0]}, {self.shape[1]}, weight_bits={self.weight_codes.bits}"
