"""Products of binary weights that keep one bit per activation for the backward pass.

y = q_x(x) * q_w(W), with q_w(W) = alpha sign(W) and q_x sign, step or nothing, as one autograd
node: it keeps the latent weights (a parameter, kept anyway), the input's bits and, where the
backward rule is a window, its mask's bits. The quantized tensors are made again in the backward
pass. Forward products of bits with bits are counted (xor and popcount) where that is faster.

Gradients equal those of the plain composition ``product(q_x(x), q_w(W))`` bit for bit; outputs
do for integers, that is without scale and bias, and to rounding with them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from ste_lightning.functional import bits as packed
from ste_lightning.functional.counted import counted_product, counts
from ste_lightning.functional.maps import hard_sign, hard_step, sign_with, step_with
from ste_lightning.functional.native_nodes import SMALL_INPUT
from ste_lightning.functional.straight_through import straight_through
from ste_lightning.functional.surrogate import Surrogate

__all__ = ["ConvolutionGeometry", "OneBitProduct", "one_bit_product", "path_of"]

# Up to this many weights a linear layer with a small input is computed by torch's own nodes: the
# calls that make and read bits would take a noticeable part of its time.
SMALL_WEIGHT = 1 << 16


class ConvolutionGeometry(NamedTuple):
    """A convolution's geometry per spatial dimension, and what pads the quantized input."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    pad_value: float = 0.0


class OneBitProduct(NamedTuple):
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

    @staticmethod
    def remembers_bits(rule: Surrogate, dtype: torch.dtype) -> bool:
        """Return whether one bit per element is all that ``rule`` must remember."""
        return rule.remembers == "nothing" or rule.window(dtype) is not None

    def quantized(self, x: Tensor) -> Tensor:
        """Return the quantized input, without gradient."""
        if self.input_map is None:
            return x
        return hard_sign(x) if self.input_map == "sign" else hard_step(x)

    def unpacked(self, bits: Tensor, shape: torch.Size, dtype: torch.dtype) -> Tensor:
        """Return the quantized input from its bits."""
        return packed.unpack(bits, shape, -1.0 if self.input_map == "sign" else 0.0, dtype)

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
        self, grad: Tensor, x: Tensor, weight: Tensor, wanted: tuple[bool, bool, bool]
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Return the gradients in the quantized input, the quantized weight and the bias.

        ``weight`` must be the caller's own: its gradient may overwrite it.
        """
        g = self.geometry
        if g is None:
            flat = grad.reshape(-1, grad.shape[-1])
            in_x = in_weight = None
            if wanted[0]:
                in_x = flat.mm(weight).view(x.shape)
            if wanted[1]:  # no memory of its own: fresh pages would cost more than the pass
                in_weight = torch.mm(flat.t(), x.reshape(-1, x.shape[-1]), out=weight)
            return in_x, in_weight, flat.sum(0) if wanted[2] else None
        pads = self._pads()
        padding = [0] * len(g.padding) if any(pads) else list(g.padding)
        in_x, in_weight, in_bias = torch.ops.aten.convolution_backward(
            grad,
            self._padded(x),
            weight,
            [weight.shape[0]],
            g.stride,
            padding,
            g.dilation,
            False,
            [0] * len(g.padding),
            g.groups,
            wanted,
        )
        if wanted[0] and any(pads):
            in_x = F.pad(in_x, [-p for p in pads])
        return in_x, in_weight, in_bias

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


class _OneBit(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        scale: Tensor | None,
        bias: Tensor | None,
        spec: OneBitProduct,
    ) -> Tensor:
        ctx.spec, ctx.shape, ctx.dtype = spec, x.shape, x.dtype
        bits = mask = None
        if spec.input_map is not None and (ctx.needs_input_grad[0] or ctx.needs_input_grad[1]):
            assert spec.input_rule is not None
            window = spec.input_rule.window(x.dtype)
            x = x.contiguous()
            bits, mask = packed.pack(x, spec.input_map == "step", window)
        kept = x if spec.input_map is None else None
        ctx.save_for_backward(weight, scale, bits, mask, kept)
        ctx.inside = False
        y = counted_product(x, weight, scale, bias, spec)
        if y is None:
            values = spec.quantized(x) if bits is None else spec.unpacked(bits, x.shape, x.dtype)
            quantized, ctx.inside = _weight(weight, scale, spec.weight_rule)
            y = spec.multiply(values, quantized, bias)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # the decorator's own work is worth a small product
            return _backward_once(ctx, grad)
        return _backward(ctx, grad)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    spec: OneBitProduct = ctx.spec
    weight, scale, bits, mask, x = ctx.saved_tensors
    if x is None:
        x = spec.unpacked(bits, ctx.shape, ctx.dtype)
    wanted = (ctx.needs_input_grad[0], ctx.needs_input_grad[1], ctx.needs_input_grad[3])
    inside = ctx.inside
    if spec.geometry is None and not wanted[0]:
        values = torch.empty_like(weight)
    else:
        values, inside = _weight(weight, scale, spec.weight_rule)
    in_x, in_weight, in_bias = spec.differentiate(grad, x, values, wanted)
    if in_x is not None and mask is not None:
        assert spec.input_rule is not None
        window = spec.input_rule.window(ctx.dtype)
        assert window is not None
        in_x = packed.mask_gradient(in_x.contiguous(), mask, window.outside)
    if in_weight is not None:
        if scale is not None:
            in_weight.mul_(scale)
        if not inside:
            in_weight = packed.clip_gradient(in_weight, weight, spec.weight_rule)
    return in_x, in_weight, None, in_bias, None


_backward_once = once_differentiable(_backward)


def path_of(x: Tensor, weight: Tensor, scale: Tensor | None, spec: OneBitProduct) -> str:
    """Return what :func:`one_bit_product` does with these operands, for the log."""
    if _is_small(x, weight, scale, spec):
        return "small: keeps its operands"
    if spec.input_map is None:
        return "keeps its float input"
    product = "counted" if counts(x, weight, spec) else "float"
    return f"keeps one bit per input, {product} product"


def _is_small(x: Tensor, weight: Tensor, scale: Tensor | None, spec: OneBitProduct) -> bool:
    """Return whether torch's own nodes are faster, and keep hardly more, than bits."""
    if spec.geometry is not None or scale is not None:
        return False
    if spec.input_map is None and not x.requires_grad:
        return True  # then the signs of the weights are not kept
    return weight.numel() <= SMALL_WEIGHT and x.numel() <= SMALL_INPUT


def _sign_node(weight: Tensor, rule: Surrogate) -> Tensor:
    """Return sign(weight) with the rule's gradient, at the cost of one pass where that is 1.

    A view passes gradients unchanged; its values are replaced outside of autograd's sight.
    """
    wide = weight.dtype is torch.float32 or weight.dtype is torch.float64
    if not (wide and weight.requires_grad and torch.is_grad_enabled()):
        return sign_with(weight, rule)
    signs, inside = _weight(weight.detach(), None, rule)
    y = weight.view_as(weight) if inside else rule.node(weight)
    if y is None:
        return straight_through(weight, hard_sign, rule)
    y.data = signs
    return y


def _weight(weight: Tensor, scale: Tensor | None, rule: Surrogate) -> tuple[Tensor, bool]:
    """Return the quantized weights, and whether the rule is known to be 1 for all of them."""
    window = rule.window(weight.dtype)
    if window is None:
        signs, inside = packed.signs(weight), rule.remembers == "nothing"
    else:
        signs = torch.empty_like(weight)
        inside = packed.signs_inside(weight, signs, window)
    return signs if scale is None else signs.mul_(scale), inside


def one_bit_product(
    x: Tensor, weight: Tensor, scale: Tensor | None, bias: Tensor | None, spec: OneBitProduct
) -> Tensor:
    """Return ``q_x(x) * (scale sign(weight)) + bias`` and keep one bit per input element.

    Args:
        x: input, float; (*, in) for a linear layer, (N, C, *size) for a convolution.
        weight: latent weights.
        scale: positive, broadcastable against ``weight``, a constant of the backward pass;
            ``None`` for 1.
        bias: per output, or ``None``.
        spec: maps, backward rules and geometry.

    Returns:
        The product in the dtype of ``x``. It can be differentiated once.
    """
    if _is_small(x, weight, scale, spec):
        values = x
        if spec.input_rule is not None:
            values = (sign_with if spec.input_map == "sign" else step_with)(x, spec.input_rule)
        return F.linear(values, _sign_node(weight, spec.weight_rule), bias)
    y: Tensor = _OneBit.apply(x, weight, scale, bias, spec)  # type: ignore[no-untyped-call]
    return y
