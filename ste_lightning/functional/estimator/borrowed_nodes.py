"""Backward rules that are the derivative of a torch function: no Python in the backward pass.

The clipped rule is the derivative of hardtanh, the ReLU rule that of ReLU. Such a function's
node is borrowed (:meth:`~ste_lightning.functional.Surrogate.node`): its result is made and then
overwritten with the quantized values, outside of autograd's sight: only functions that keep their
input will do.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ste_lightning.functional.estimator.eager import is_plain_eager
from ste_lightning.functional.estimator.surrogate import Surrogate

__all__ = ["SMALL_INPUT", "borrowed_node"]

# Elements up to which an activation is kept whole: the calls that make and read a mask of it
# would take a noticeable part of a layer's time, to save less than 128 KiB.
SMALL_INPUT = 1 << 15


def borrowed_node(x: Tensor, rule: Surrogate) -> Tensor | None:
    """Return a new tensor like ``x`` whose gradient in ``x`` is the rule's, to be overwritten.

    Returns:
        ``None`` where the rule has no such function, nothing is to be differentiated, or
        keeping ``x`` would cost memory.
    """
    if not (x.requires_grad and torch.is_grad_enabled()):
        return None
    kind = type(x)
    if kind is Tensor:
        if x.numel() > SMALL_INPUT:
            return None
    elif kind is not torch.nn.Parameter:  # a parameter is kept anyway
        return None
    if x.dtype is not torch.float32 and x.dtype is not torch.float64:
        return None
    return rule.node(x) if is_plain_eager(x) else None
