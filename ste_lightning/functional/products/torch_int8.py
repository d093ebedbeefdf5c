"""Products of bits with bits as products of int8, where the processor has an instruction for them.

This is the fast forward product where nothing compiles code for it. Without such an instruction
(VNNI of x86) torch takes many times as long for int8 as for floats.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from ste_lightning.functional.products.popcount_forward import counting_pays
from ste_lightning.functional.products.specification import OneBitProduct
from ste_lightning.functional.saved import bit_masks as packed
from ste_lightning.functional.saved.workspace import borrow_like

__all__ = ["int8_product"]


@functools.cache
def _multiplies_int8() -> bool:
    """Return whether the processor sums products of int8 in one instruction, as far as told."""
    told = getattr(torch.cpu, "_is_vnni_supported", None)
    return told is not None and bool(told())


def int8_product(
    bits: Tensor, shape: torch.Size, weight: Tensor, bias: Tensor | None, spec: OneBitProduct
) -> Tensor | None:
    """Return the linear product ``q_x(x) sign(W)^T + bias``, or ``None`` where it does not pay.

    Args:
        bits, shape: of the input.
        weight: latent weights (outputs, inputs).
        bias: per output, or ``None``.
        spec: without a geometry, with an input map.

    Returns:
        The product in the dtype of ``weight``; the sums themselves are exact.
    """
    outputs, inputs = weight.shape
    rows = shape.numel() // max(inputs, 1)
    if not (weight.is_cpu and counting_pays(rows, inputs, outputs) and _multiplies_int8()):
        return None
    values = spec.unpacked(bits, shape, torch.int8).view(rows, inputs)
    loan = borrow_like(weight)
    sums = torch._int_mm(values, packed.signs(weight, loan.tensor).to(torch.int8).t())
    y = sums.to(weight.dtype).view(*shape[:-1], outputs)
    return y if bias is None else y.add_(bias)
