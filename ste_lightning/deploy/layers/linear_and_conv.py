"""Packed linear layers and convolutions: products by the packed kernels, eval only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ste_lightning import kernels
from ste_lightning.deploy.layers.input_quantizers import Input, TokenInput
from ste_lightning.deploy.layers.packed_layer import PackedLayer
from ste_lightning.deploy.layers.scale_groups import multiplies_groups, product_of_groups
from ste_lightning.deploy.layers.spatial import PackedSpatial
from ste_lightning.deploy.layers.torch_and_gpu import computed
from ste_lightning.kernels import Codes, Geometry

__all__ = ["PackedConv", "PackedLinear"]


class PackedLinear(PackedLayer):
    """y = scale (q(x) W^T) + bias with packed integer weights W, (*, in) -> (*, out)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the product, in the dtype of ``x``."""
        self.check_channels(x, -1)
        return self.called(x)

    def result_like(self, x: Tensor, growth: Sequence[int] = ()) -> Tensor:
        """Return an empty tensor of the result's shape and type."""
        self.check_channels(x, -1)
        return x.new_empty([*x.shape[:-1], self.shape[0]])

    def computed(self, x: Tensor, growth: Sequence[int] = ()) -> Tensor:
        """Return the product, in the dtype of ``x``."""
        small = self.small()
        found = None if small is None else small(x)
        if found is not None:
            return found
        outputs, inputs = self.shape
        self.check_channels(x, -1)
        by_kernel, rows = self._by_kernel(x), x.detach().reshape(-1, inputs)
        if not by_kernel and multiplies_groups(self):
            y = product_of_groups(self, rows)
            return y.view(*x.shape[:-1], outputs).to(x.dtype)
        if not by_kernel:
            return computed(self, x)
        if isinstance(self.input, TokenInput):
            codes, scale = self.input.encode_tokens(rows.float())
            y = kernels.linear(codes, self.prepared()) * scale
            if self.bias is not None:
                y += self.bias
        else:
            operand, factor, offset = self._operand(rows)
            w = self.prepared()
            if operand.dtype == torch.float32 and w.counts_bits:
                self.derived("small", lambda: kernels.small_linear(w, factor, offset))
            y = kernels.linear(operand, w, factor, offset)
        return y.view(*x.shape[:-1], outputs).to(x.dtype)

    def small(self) -> Callable[[Tensor], Tensor | None] | None:
        """Return what multiplies a few rows, once the first call has made it.

        It gives ``None`` for inputs that :meth:`computed` must take.
        """
        return self._derived.get("small")

    def product(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, pad: float, **options: Any
    ) -> Tensor:
        """Return x W^T + b."""
        return F.linear(x, weight, bias)

    def extra_repr(self) -> str:
        """Return sizes and bits."""
        return f"{self.shape[1]}, {self.shape[0]}, weight_bits={self.weight_codes.bits}"


class PackedConv(PackedSpatial):
    """y = scale conv(q(x), W) + bias with packed integer weights, in one to three dimensions.

    Args:
        input, weight, shape, groups, scaled, bias, integers: as in :class:`PackedLayer`.
        geometry: kernel, stride, padding and dilation.
        pad_value: what pads the quantized input.
        padding_mode: ``"zeros"``, or how the input's own values pad it (as in torch).
    """

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
        pad_value: float = 0.0,
        padding_mode: str = "zeros",
    ) -> None:
        super().__init__(input, weight, shape, geometry, groups, scaled, bias, integers)
        self.pad_value = float(pad_value)
        self.padding_mode = padding_mode

    def pad_level(self) -> float:
        """Return what pads the input, in input levels."""
        return self.pad_value / float(getattr(self.input, "scale", 1.0))

    def pads(self) -> list[int]:
        """Return the padding as torch's pad takes it, the last dimension first."""
        return [p for pair in reversed(self.geometry.padding) for p in pair]

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolution, in the dtype of ``x``."""
        self.check(x)
        return self.called(x)

    def result_like(self, x: Tensor, growth: Sequence[int] = ()) -> Tensor:
        """Return an empty tensor of the result's shape and type."""
        self.check(x)
        g = self.geometry
        sizes = [
            (n + sum(p) - d * (k - 1) - 1) // s + 1
            for n, p, d, k, s in zip(
                x.shape[-len(g.kernel) :], g.padding, g.dilation, g.kernel, g.stride, strict=True
            )
        ]
        for size in sizes:
            torch._check(size > 0, lambda: "the input is smaller than the kernel")  # type: ignore[no-untyped-call]
        return x.new_empty([*x.shape[: x.dim() - len(sizes) - 1], self.shape[0], *sizes])

    def computed(self, x: Tensor, growth: Sequence[int] = ()) -> Tensor:
        """Return the convolution, in the dtype of ``x``; its channels are stored last."""
        dims = len(self.geometry.kernel)
        if x.dim() == dims + 1:
            return self.computed(x.unsqueeze(0)).squeeze(0)
        self.check(x)
        if not self._by_kernel(x) or isinstance(self.input, TokenInput):
            return computed(self, x)
        geometry = self.geometry
        if self.padding_mode != "zeros":
            x = F.pad(x, self.pads(), mode=self.padding_mode)
            geometry = replace(geometry, padding=((0, 0),) * dims)
        operand, factor, offset = self._operand(x)
        y = kernels.convolve(operand, self.prepared(), geometry, factor, offset)
        return y.to(x.dtype)

    def padded(self, x: Tensor, value: float) -> Tensor:
        """Return the padded input; ``value`` where the input itself gives none."""
        pads = self.pads()
        if self.padding_mode != "zeros":
            return F.pad(x, pads, mode=self.padding_mode)
        return F.pad(x, pads, value=value) if any(pads) else x

    def product(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, pad: float, **options: Any
    ) -> Tensor:
        """Return the convolution of the padded input."""
        geometry = self.geometry
        convolve = (F.conv1d, F.conv2d, F.conv3d)[len(geometry.kernel) - 1]
        y: Tensor = convolve(
            self.padded(x, pad), weight, bias, geometry.stride, 0, geometry.dilation, self.groups
        )
        return y
