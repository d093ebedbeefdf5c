"""Grids of any sorted values as compiled code: the nearest one, and what its scale learns."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from ste_lightning.kernels.jit.arrays import zeros
from ste_lightning.kernels.jit.c_functions import DOUBLES, FLOAT, FLOATS, SIZE, addressed, carray
from ste_lightning.kernels.jit.compiling import emitted
from ste_lightning.kernels.jit.llvm import load, pointer_to, splat, store
from ste_lightning.kernels.jit.simd import copy

__all__ = ["differentiate_codebook", "quantize_codebook"]

_I64 = ir.IntType(64)
_REALS, _FLOATS = ir.VectorType(ir.FloatType(), 32), types.Array(types.float32, 1, "C")
_DOUBLES = types.Array(types.float64, 1, "C")
_INDEX, _NUMBER = types.int64, types.float32


def _chosen(b: Any, v: Any, thresholds: Any, levels: Any, count: Any) -> Any:
    """Return levels[i] of the i thresholds that are below v; NaN where v is."""
    first = splat(b, b.load(levels), 32)
    cell = cgutils.alloca_once_value(b, first)  # type: ignore[no-untyped-call]
    with cgutils.for_range(b, count) as loop:
        threshold = splat(b, b.load(b.gep(thresholds, [loop.index])), 32)
        after = b.gep(levels, [b.add(loop.index, ir.Constant(_I64, 1))])
        beyond = b.fcmp_ordered(">", v, threshold)
        b.store(b.select(beyond, splat(b, b.load(after), 32), b.load(cell)), cell)
    return b.select(b.fcmp_unordered("uno", v, v), v, b.load(cell))


def _clipped(b: Any, v: Any, low: Any, high: Any) -> Any:
    v = b.select(b.fcmp_ordered("<", v, low), low, v)
    return b.select(b.fcmp_ordered("<", high, v), high, v)


@emitted
def quantize_32(
    typing: Any,
    x: Any,
    at: Any,
    scale: Any,
    low: Any,
    thresholds: Any,
    levels: Any,
    count: Any,
    out: Any,
    to: Any,
) -> Any:
    """Write the levels of clip(x / scale, low, 1), 32 elements."""

    def code(context: Any, b: Any, signature: Any, args: Any) -> Any:
        kinds = signature.args
        zero = ir.Constant(_I64, 0)
        x_, at_, scale_, low_, _, _, count_, out_, to_ = args
        v = load(b, pointer_to(context, b, kinds[0], x_, at_), _REALS)
        v = b.fdiv(v, splat(b, scale_, 32))
        v = _clipped(b, v, splat(b, low_, 32), ir.Constant(_REALS, [1.0] * 32))
        thresholds_, levels_ = (pointer_to(context, b, kinds[i], args[i], zero) for i in (4, 5))
        chosen = _chosen(b, v, thresholds_, levels_, count_)
        store(b, chosen, pointer_to(context, b, kinds[7], out_, to_), 4)
        return context.get_dummy_value()

    return types.none(
        *(_FLOATS, _INDEX, _NUMBER, _NUMBER, _FLOATS, _FLOATS, _INDEX, _FLOATS, _INDEX)
    ), code


@emitted
def differentiate_32(
    typing: Any,
    grad: Any,
    x: Any,
    at: Any,
    scale: Any,
    low: Any,
    thresholds: Any,
    levels: Any,
    count: Any,
    sums: Any,
) -> Any:
    """Multiply 32 of ``grad`` by dy/dx; add them times dy/dscale to the 32 float64 ``sums``."""

    def code(context: Any, b: Any, signature: Any, args: Any) -> Any:
        kinds, zero = signature.args, ir.Constant(_I64, 0)
        grad_, x_, at_, scale_, low_, _, _, count_, sums_ = args
        place = pointer_to(context, b, kinds[0], grad_, at_)
        g = load(b, place, _REALS)
        v = load(b, pointer_to(context, b, kinds[1], x_, at_), _REALS)
        v = b.fdiv(v, splat(b, scale_, 32))
        least, most = splat(b, low_, 32), ir.Constant(_REALS, [1.0] * 32)
        inside = b.and_(b.fcmp_ordered("<=", least, v), b.fcmp_ordered("<=", v, most))
        clipped = _clipped(b, v, least, most)
        thresholds_, levels_ = (pointer_to(context, b, kinds[i], args[i], zero) for i in (5, 6))
        level = _chosen(b, clipped, thresholds_, levels_, count_)
        part = b.select(inside, clipped, ir.Constant(_REALS, None))
        by_scale = b.fmul(g, b.fsub(level, part))
        store(b, b.fmul(g, b.select(inside, most, ir.Constant(_REALS, None))), place, 4)
        kind = ir.VectorType(ir.DoubleType(), 32)
        total = pointer_to(context, b, kinds[8], sums_, zero)
        store(b, b.fadd(load(b, total, kind, 8), b.fpext(by_scale, kind)), total, 8)
        return context.get_dummy_value()

    return types.none(
        *(_FLOATS, _FLOATS, _INDEX, _NUMBER, _NUMBER, _FLOATS, _FLOATS, _INDEX, _DOUBLES)
    ), code


@addressed(FLOATS, FLOATS, FLOAT, FLOAT, FLOATS, FLOATS, SIZE, SIZE, SIZE)
def quantize_codebook(  # type: ignore[no-untyped-def]
    x_, out_, scale, low, thresholds_, levels_, count, first, last
):
    """Write the level of clip(x / scale, low, 1) of elements ``first`` to ``last``.

    It is levels[i] for i of the ``count`` ascending thresholds below; there is one level more.
    """
    x, out = carray(x_, (last,))[first:], carray(out_, (last,))[first:]
    thresholds, levels = carray(thresholds_, (count,)), carray(levels_, (count + 1,))
    whole = len(x) // 32 * 32
    for i in range(0, whole, 32):
        quantize_32(x, i, scale, low, thresholds, levels, count, out, i)
    if whole < len(x):
        part, row = zeros(32, np.float32), zeros(32, np.float32)
        copy(x, whole, part, 0, len(x) - whole)
        quantize_32(part, 0, scale, low, thresholds, levels, count, row, 0)
        copy(row, 0, out, whole, len(x) - whole)


@addressed(FLOATS, FLOATS, FLOAT, FLOAT, FLOATS, FLOATS, SIZE, DOUBLES, SIZE, SIZE)
def differentiate_codebook(  # type: ignore[no-untyped-def]
    grad_, x_, scale, low, thresholds_, levels_, count, total_, first, last
):
    """Multiply ``grad`` by dy/dx = 1[low <= v <= 1], v = x / scale; sum it times dy/dscale.

    dy/dscale = level - v inside, the level outside; levels are of scale 1.
    """
    grad, x = carray(grad_, (last,))[first:], carray(x_, (last,))[first:]
    thresholds, levels = carray(thresholds_, (count,)), carray(levels_, (count + 1,))
    sums, total = zeros(32, np.float64), carray(total_, (1,))
    whole = len(x) // 32 * 32
    for i in range(0, whole, 32):
        differentiate_32(grad, x, i, scale, low, thresholds, levels, count, sums)
    if whole < len(x):
        left = len(x) - whole
        part_of_grad, part_of_x = zeros(32, np.float32), zeros(32, np.float32)
        copy(grad, whole, part_of_grad, 0, left)
        copy(x, whole, part_of_x, 0, left)
        differentiate_32(part_of_grad, part_of_x, 0, scale, low, thresholds, levels, count, sums)
        copy(part_of_grad, 0, grad, whole, left)
    total[0] = sums.sum()
