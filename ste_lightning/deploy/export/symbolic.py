"""ONNX operators inside a module that torch exports."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["symbolic"]


def symbolic(
    name: str,
    operands: Sequence[Tensor | None],
    dtype: torch.dtype,
    shape: Sequence[Any],
    **attributes: Any,
) -> Tensor:
    """Return the result of an ONNX operator, which only the exported file computes.

    Args:
        name: the operator, after its domain and ``::`` if it is no standard one.
        operands: its inputs.
        dtype, shape: of the result.
        attributes: of the operator.
    """
    found: Tensor = torch.onnx.ops.symbolic(
        name, tuple(operands), attributes, dtype=dtype, shape=tuple(shape), version=1
    )
    return found
