"""Linear layers too small for bits: torch's own nodes, with as few calls as possible around them.

At these sizes a call costs as much as the arithmetic in it. Nodes of torch's functions are
borrowed (see :mod:`.borrowed_nodes`); one compiled call writes the signs of both operands.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import Parameter

from ste_lightning.functional.estimator.borrowed_nodes import SMALL_INPUT
from ste_lightning.functional.estimator.straight_through import straight_through
from ste_lightning.functional.estimator.surrogate import Surrogate
from ste_lightning.functional.hard_maps import hard_sign
from ste_lightning.functional.maps import sign_with, step_with
from ste_lightning.functional.products.specification import OneBitProduct
from ste_lightning.functional.saved import bit_masks as packed
from ste_lightning.functional.saved.workspace import borrow_like

__all__ = ["is_small", "small_linear"]

# Up to this many weights a linear layer with a small input is computed by torch's own nodes: the
# calls that make and read bits would take a noticeable part of its time.
SMALL_WEIGHT = 1 << 16

_COPIED = 1 << 14  # weights up to which copying them takes less time than making a view
_LENT = 1 << 19  # weights from which lent memory is faster than fresh one


def is_small(x: Tensor, weight: Tensor, scale: Tensor | None, spec: OneBitProduct) -> bool:
    """Return whether torch's own nodes are faster, and keep hardly more, than bits."""
    if spec.geometry is not None or scale is not None:
        return False
    if spec.input_map is None and not x.requires_grad:
        return True  # then the signs of the weights are not kept
    return weight.numel() <= SMALL_WEIGHT and x.numel() <= SMALL_INPUT


def small_linear(x: Tensor, weight: Tensor, bias: Tensor | None, spec: OneBitProduct) -> Tensor:
    """Return ``q_x(x) sign(W)^T + bias``, differentiable by the rules of ``spec``.

    Args:
        x, weight, bias, spec: as of
            :func:`~ste_lightning.functional.products.binary.one_bit_product`, and :func:`is_small`.
    """
    rule, size, native = spec.weight_rule, weight.numel(), None
    if type(weight) is Parameter and size <= SMALL_WEIGHT:
        native = packed.compiled_code(weight)
    if native is None:
        # without a gradient in the input the product does not keep the signs
        lost = not (x.requires_grad and torch.is_grad_enabled())
        loan = borrow_like(weight) if lost and size > _LENT and weight.is_contiguous() else None
        signs = _sign_node(weight, rule, None if loan is None else loan.tensor)
        return F.linear(_quantized(x, spec), signs, bias)
    node, inputs, learns = None, 0, torch.is_grad_enabled()
    if spec.input_map == "sign" and x.dtype is torch.float32 and x.is_cpu and x.is_contiguous():
        assert spec.input_rule is not None
        node = spec.input_rule.node(x) if learns and x.requires_grad else torch.empty_like(x)
    if node is None:
        values = _quantized(x, spec)
    else:
        values, inputs = node, x.numel()
    # a copy passes gradients unchanged, as a view does
    learns = learns and weight.requires_grad
    copies = learns and size <= _COPIED
    signs = weight.clone() if copies else torch.empty_like(weight, requires_grad=False)
    low, high = spec.weight_bounds
    y, w, v = values.data_ptr(), weight.data_ptr(), signs.data_ptr()
    found = native.signs_of_both(x.data_ptr(), y, inputs, w, v, size, low, high)
    if not found & 1:  # NaN, which some of torch's kernels pass
        values = _quantized(x, spec)
    if learns and not (copies and found & 2):
        inside = found & 2 != 0 or rule.remembers == "nothing"
        if not (copies and inside):
            signs = _with_values(weight, signs.detach() if copies else signs, rule, inside)
    return torch._C._nn.linear(values, signs, bias)


def _quantized(x: Tensor, spec: OneBitProduct) -> Tensor:
    if spec.input_rule is None:
        return x
    return (sign_with if spec.input_map == "sign" else step_with)(x, spec.input_rule)


def _sign_node(weight: Tensor, rule: Surrogate, room: Tensor | None) -> Tensor:
    """Return sign(weight) with the rule's gradient, at the cost of one pass where that is 1.

    Args:
        weight: latent weights.
        rule: their backward rule.
        room: where the values may be written.
    """
    wide = weight.dtype is torch.float32 or weight.dtype is torch.float64
    if not (wide and weight.requires_grad and torch.is_grad_enabled()):
        return sign_with(weight, rule)
    signs, inside = packed.weight_signs(weight.detach(), None, rule, room)
    return _with_values(weight, signs, rule, inside)


def _with_values(weight: Tensor, signs: Tensor, rule: Surrogate, inside: bool) -> Tensor:
    """Return a node with the rule's gradient in ``weight`` and these values.

    A view passes gradients unchanged; values are replaced outside of autograd's sight.
    """
    y = weight.view_as(weight) if inside else rule.node(weight)
    if y is None:
        return straight_through(weight, hard_sign, rule)
    y.data = signs
    return y
