"""Linear layers and their gradients by tile registers (AMX), which multiply bfloat16 numbers.

A gradient is cut into three bfloat16 numbers, a quantized operand is one: an integer times a step,
and the step goes to the gradient. The result differs from float32's by rounding alone, see
:mod:`ste_lightning.kernels.ukernels.amx_bf16`.
"""

from __future__ import annotations

import functools
import math
import os
from typing import NamedTuple

import torch
from torch import Tensor

from ste_lightning.functional.saved.workspace import Loan, borrow
from ste_lightning.kernels import Codes
from ste_lightning.kernels.dispatch import choose
from ste_lightning.kernels.jit.threads import share

__all__ = [
    "ONE",
    "Operand",
    "gradient_format",
    "packed_integers",
    "per_output",
    "tiled_gradients",
    "tiled_product",
    "tiles_pay",
]

ONE = torch.ones(1)

_LEAST_WORK = 1 << 26  # multiplications of a product: fewer do not pay for compiling its code
_ANY = Codes(8, 1, 0)
_ENDLESS = (-math.inf, math.inf)
_LEAST_GROUPS = 4  # of 32 outputs, worth a thread of their own


class Operand(NamedTuple):
    """A quantized matrix, contiguous, or what it is made of.

    Attributes:
        values: (rows, columns) in float32.
        steps: of which the values are multiples: of one element, or one per row; ``None`` where
            they are no multiples, or of none that is known.
        ends: (low, high) for values that are not quantized: steps round(clip(values / steps)) are
            multiplied.
    """

    values: Tensor
    steps: Tensor | None = None
    ends: tuple[float, float] | None = None


@functools.cache
def _ones() -> Tensor:
    with torch.inference_mode(False):
        return torch.ones(32)


@functools.cache
def _format(inputs: Codes, forced: str) -> str:
    return choose("gradient", inputs, inputs).format


def gradient_format(inputs: Codes) -> str:
    """Return how the table of kernels multiplies a gradient by operands of these codes."""
    return _format(inputs, os.environ.get("STE_KERNEL", ""))


def tiles_pay(rows: int, weight: Tensor) -> bool:
    """Return whether products of so many rows and the weights are faster by tile registers."""
    work = rows * weight.numel()
    return work >= _LEAST_WORK and gradient_format(_ANY) == "float_tiles"


def _cut(
    x: Tensor, by_rows: bool, is_left: bool, lines: Tensor | None, across: Tensor | None
) -> Loan:
    """Return tiles of floats in three parts: of ``x`` or, not ``by_rows``, of its transpose.

    Rows of ``x`` are multiplied by ``lines``, columns by ``across``.
    """
    held = _packed(x, by_rows, is_left, (lines, across), 3)
    assert held is not None
    return held


def packed_integers(x: Operand, by_rows: bool, is_left: bool) -> Loan | None:
    """Return tiles of integers in one part, ``None`` where they are none of eight bits."""
    if x.steps is None:
        return None
    return _packed(x.values, by_rows, is_left, (x.steps, None), 1, x.ends or _ENDLESS)


def _packed(
    x: Tensor,
    by_rows: bool,
    is_left: bool,
    factors: tuple[Tensor | None, Tensor | None],
    parts: int,
    ends: tuple[float, float] = _ENDLESS,
) -> Loan | None:
    from ste_lightning.kernels.training import float_tiles

    rows, terms = x.shape if by_rows else (x.shape[1], x.shape[0])
    held = borrow((float_tiles.packed_bytes(rows, terms, parts),), torch.uint8, x.device)
    lines, across = (_ones() if t is None else t for t in factors)
    across = across.expand(32).contiguous() if across.numel() == 1 else across  # read 32 at a time
    of_lines, of_columns = int(lines.numel() == x.shape[0]), int(across.numel() == x.shape[1])
    numbers = x.data_ptr(), rows, terms, x.shape[1], by_rows, is_left
    scales = lines.data_ptr(), of_lines, across.data_ptr(), of_columns
    to, missing = held.tensor.data_ptr(), []

    def part(first: int, last: int) -> None:
        missing.append(float_tiles.pack(*numbers, *scales, *ends, parts, to, first, last))

    share(part, -(-rows // float_tiles.GROUP), _LEAST_GROUPS)
    return None if any(missing) else held


def _multiply(left: Loan, lefts: int, right: Loan, rights: int, terms: int, out: Tensor) -> Tensor:
    """Write left @ right to ``out``."""
    from ste_lightning.kernels.training import float_tiles

    operands = left.tensor.data_ptr(), lefts, right.tensor.data_ptr(), rights
    sizes, to = (*out.shape, terms), out.data_ptr()
    share(
        lambda a, b: float_tiles.multiply(*operands, *sizes, to, a, b),
        -(-out.shape[1] // float_tiles.GROUP),
        _LEAST_GROUPS,
    )
    return out


def per_output(scale: Tensor | None, weight: Tensor) -> Tensor | None:
    """Return scales as one, or one per output; ``None`` where they lie along another axis."""
    if scale is None:
        return ONE
    if scale.numel() != 1 and scale.shape != (len(weight), *[1] * (weight.dim() - 1)):
        return None
    return scale.reshape(-1).contiguous()


def _usable(*tensors: Tensor) -> bool:
    return all(
        t.dtype == torch.float32 and t.device.type == "cpu" and t.is_contiguous() for t in tensors
    )


def tiled_product(x: Operand, weight: Operand, bias: Tensor | None) -> Tensor | None:
    """Return x W^T + bias, or ``None`` where that is not faster by tile registers.

    Args:
        x: (*, inputs).
        weight: (outputs, inputs).
        bias: per output, or ``None``.
    """
    shape, outputs = x.values.shape, len(weight.values)
    x = x._replace(values=x.values.reshape(-1, shape[-1]))
    rows = len(x.values)
    if not _usable(x.values, weight.values) or not tiles_pay(rows, weight.values):
        return None
    right, left = packed_integers(weight, True, False), packed_integers(x, True, True)
    if left is None and right is None:
        return None  # six products of bfloat16 numbers take as long as one of float32
    by_x, by_weight = x.steps, weight.steps
    lefts = rights = 1
    if left is None:
        left, lefts, by_x = _cut(x.values, True, True, None, None), 3, None
    if right is None:
        if weight.ends is not None:
            return None
        right, rights, by_weight = _cut(weight.values, True, False, None, None), 3, None
    y = _multiply(left, lefts, right, rights, shape[-1], torch.empty(rows, outputs))
    if by_x is not None:
        if by_x.numel() == 1 and by_weight is not None:
            by_weight = by_weight * by_x
        else:
            y.mul_(by_x.view(-1, 1))
    if by_weight is not None:
        y.mul_(by_weight)
    return (y if bias is None else y.add_(bias.detach())).view(*shape[:-1], outputs)


def tiled_gradients(
    grad: Tensor,
    x: Operand,
    weight: Operand,
    wanted: tuple[bool, bool, bool],
    out: Tensor | None = None,
) -> tuple[Tensor | None, Tensor | None, Tensor | None] | None:
    """Return the gradients of a linear layer in its quantized input, weights and bias.

    dL/dx = dL/dy W, dL/dW = (dL/dy)^T x, and dL/db is the sum of dL/dy over rows.

    Args:
        grad: dL/dy, (*, outputs).
        x: (*, inputs), quantized.
        weight: (outputs, inputs).
        wanted: which of the three.
        out: for dL/dW; may be the memory of quantized weights.

    Returns:
        ``None`` where that is not faster by tile registers, and where weights are not finite.
    """
    shape, rows = x.values.shape, x.values.reshape(-1, x.values.shape[-1])
    flat = grad.reshape(-1, grad.shape[-1])
    if not _usable(flat, rows, weight.values) or not tiles_pay(len(flat), weight.values):
        return None
    in_x = in_weight = None
    if wanted[0]:
        in_x = _gradient(flat, True, weight, torch.empty(len(flat), weight.values.shape[1]))
        if in_x is None:
            return None
        in_x = in_x.view(shape)
    if wanted[1]:
        out = torch.empty(weight.values.shape) if out is None else out
        in_weight = _gradient(flat, False, x._replace(values=rows), out)
    return in_x, in_weight, flat.sum(0) if wanted[2] else None


def _gradient(grad: Tensor, by_rows: bool, other: Operand, out: Tensor) -> Tensor | None:
    """Write ``grad``, or its transpose, times the other operand to ``out``.

    The steps of the other operand lie along the terms: they multiply ``grad``.
    """
    steps, rights = other.steps, 1
    right = packed_integers(other, False, False)
    if right is None:
        if other.ends is not None:
            return None
        right, rights, steps = _cut(other.values, False, False, None, None), 3, None
    left = _cut(grad, by_rows, True, *((None, steps) if by_rows else (steps, None)))
    return _multiply(left, 3, right, rights, len(other.values), out)
