"""What a product of binary weights multiplies, and its float form and derivative."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ste_lightning.functional.estimator.surrogate import Surrogate
from ste_lightning.functional.hard_maps import hard_sign, hard_step
from ste_lightning.functional.products.tile_convolutions import tiled_convolution_gradients
from ste_lightning.functional.products.tile_products import Operand, tiled_gradients
from ste_lightning.functional.saved import bit_masks as packed

__all__ = ["ConvolutionGeometry", "OneBitProduct"]


class ConvolutionGeometry(NamedTuple):
    """A convolution's geometry per spatial dimension, and what pads the quantized input."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    pad_value: float = 0.0


@dataclasses.dataclass(frozen=True)
class OneBitProduct:
    """What is multiplied, and how it is differentiated.

    Attributes:
        input_map: ``"sign"``, ``"step"``, or ``None`` for float inputs.
        input_rule: its backward rule; one that remembers nothing, or has a window.
        weight_rule: the backward rule of the weights' sign; any.
        geometry: of a convolution; ``None`` for a linear layer.
    """

    input_map: str | None
    input_rule: Surrogate | None
    weight_rule: Surrogate
    geometry: ConvolutionGeometry | None = None

    @functools.cached_property
    def weight_bounds(self) -> tuple[float, float]:
        """Low and high of the weight rule's window for float32: no number's, where it has none."""
        window = self.weight_rule.window(torch.float32)
        return (math.inf, -math.inf) if window is None else (window.low, window.high)

    @staticmethod
    def remembers_bits(rule: Surrogate, dtype: torch.dtype) -> bool:
        """Return whether one bit per element is all that ``rule`` must remember."""
        return rule.remembers == "nothing" or rule.window(dtype) is not None

    def quantized(self, x: Tensor) -> Tensor:
        """Return the quantized input, without gradient."""
        if self.input_map is None:
            return x
        return hard_sign(x) if self.input_map == "sign" else hard_step(x)

    def unpacked(
        self, bits: Tensor, shape: torch.Size, dtype: torch.dtype, out: Tensor | None = None
    ) -> Tensor:
        """Return the quantized input from its bits, in ``out`` if given."""
        return packed.unpack(bits, shape, -1 if self.input_map == "sign" else 0, dtype, out)

    def multiply(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return the float product of quantized operands."""
        g = self.geometry
        if g is None:
            return F.linear(x, weight, bias)
        convolve = (F.conv1d, F.conv2d, F.conv3d)[weight.dim() - 3]
        padding = g.padding if g.pad_value == 0 else (0,) * len(g.padding)
        y: Tensor = convolve(self._padded(x), weight, bias, g.stride, padding, g.dilation, g.groups)
        return y

    def differentiate(
        self,
        grad: Tensor,
        x: Tensor,
        weight: Tensor,
        wanted: tuple[bool, bool, bool],
        own: bool = True,
        steps: tuple[Tensor | None, Tensor | None] = (None, None),
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Return the gradients in the quantized input, the quantized weight and the bias.

        Where ``weight`` is the caller's ``own``, its gradient may overwrite it. ``steps`` are what
        the rows of ``x`` and of ``weight`` are multiples of, where that is known.
        """
        g, operands = self.geometry, (Operand(x, steps[0]), Operand(weight, steps[1]))
        if g is None:
            tiled = tiled_gradients(grad, *operands, wanted, weight if own else None)
            if tiled is not None:
                return tiled
            flat = grad.reshape(-1, grad.shape[-1])
            in_x = in_weight = None
            rows = x.reshape(-1, x.shape[-1])
            if wanted[1] and not own:  # first, so that the input's is fresh in the cache
                in_weight = flat.t().mm(rows)
            if wanted[0]:
                in_x = flat.mm(weight).view(x.shape)
            if wanted[1] and own:  # no memory of its own: fresh pages would cost more than the pass
                in_weight = torch.mm(flat.t(), rows, out=weight)
            return in_x, in_weight, flat.sum(0) if wanted[2] else None
        convolved = tiled_convolution_gradients(grad, *operands, g, wanted[:2])
        if convolved is not None:
            in_bias = grad.sum([0, *range(2, grad.dim())]) if wanted[2] else None
            return *convolved, in_bias
        if not any(self._pads()):
            return self._convolution_gradients(grad, x, weight, g.padding, wanted)
        # what images are padded with has no gradient: that of the input is multiplied without it
        in_x = self._convolution_gradients(grad, x, weight, g.padding, (wanted[0], False, False))[0]
        rest, none = (False, *wanted[1:]), (0,) * len(g.padding)
        return in_x, *self._convolution_gradients(grad, self._padded(x), weight, none, rest)[1:]

    def _convolution_gradients(
        self,
        grad: Tensor,
        x: Tensor,
        weight: Tensor,
        padding: tuple[int, ...],
        wanted: tuple[bool, bool, bool],
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        if not any(wanted):
            return None, None, None
        g = self.geometry
        assert g is not None
        found: tuple[Tensor | None, Tensor | None, Tensor | None]
        found = torch.ops.aten.convolution_backward(
            grad,
            x,
            weight,
            [weight.shape[0]],
            g.stride,
            padding,
            g.dilation,
            False,
            [0] * len(padding),
            g.groups,
            wanted,
        )
        return found

    def _pads(self) -> list[int]:
        g = self.geometry
        if g is None or g.pad_value == 0:
            return []
        return [p for p in reversed(g.padding) for _ in range(2)]

    def _padded(self, x: Tensor) -> Tensor:
        pads = self._pads()
        if not any(pads):
            return x
        assert self.geometry is not None
        return F.pad(x, pads, value=self.geometry.pad_value)
