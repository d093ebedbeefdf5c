"""The loops over all data and all lanes, as vector instructions.

Plain numba loops over a run-time number of lanes keep their sums in memory and stay four times
slower than the cache allows; so the loops are emitted as LLVM code over ``<16 x float>``. The
width is part of the *definition* of the sums, not of the machine: LLVM splits such a vector into
two AVX2 or four SSE registers, and the rounding is the same everywhere (with fused multiply-add).

A block holds ``L`` samples of ``m`` rows as ``m * L`` lanes, feature by feature::

    block[k, j * L + s] = Z[sample s, row j, feature k]

A tile is four vectors (64 lanes) of it: as many sums as the registers of AVX2 hold.
"""

from __future__ import annotations

import functools
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from ste_lightning.kernels.compiling import emitted
from ste_lightning.theory.engine.llvm import (
    INDEX,
    LANES,
    VECTOR,
    cell_of,
    entry,
    fma,
    load,
    pointer_to,
    prefetch,
    splat,
    store,
)

__all__ = ["LANES", "TILE", "accumulate", "lane_sums", "project", "residual", "weigh_window"]

TILE = 4 * LANES


@emitted
def project(
    typing: Any, block: Any, start: Any, stride: Any, features: Any, w: Any, out: Any, first: Any
) -> Any:
    """``out[first + l] = sum_k w[k] * block[start + k * stride + l]`` for the 64 lanes ``l``.

    Args (in compiled code): ``block``, ``w``, ``out`` float32 arrays; the rest int64.
    """

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        block_, start_, stride_, features_, w_, out_, first_ = args
        data = pointer_to(context, builder, signature.args[0], block_, start_)
        weights = context.make_array(signature.args[4])(context, builder, w_).data
        target = pointer_to(context, builder, signature.args[5], out_, first_)
        zero = ir.Constant(VECTOR, None)
        sums = [cell_of(builder) for _ in range(TILE // LANES)]
        for cell in sums:
            builder.store(zero, cell)
        with cgutils.for_range(builder, features_) as loop:
            row = builder.gep(data, [builder.mul(loop.index, stride_)])
            weight = splat(builder, builder.load(builder.gep(weights, [loop.index])))
            for c, cell in enumerate(sums):
                total = builder.load(cell)
                product = builder.call(fma(builder), [load(builder, row, c), weight, total])
                builder.store(product, cell)
        for c, cell in enumerate(sums):
            store(builder, builder.load(cell), target, c)
        return context.get_dummy_value()

    array, index = types.Array(types.float32, 1, "C"), types.int64
    return types.none(array, index, index, index, array, array, index), code


@emitted
def accumulate(
    typing: Any,
    block: Any,
    start: Any,
    stride: Any,
    features: Any,
    c: Any,
    first: Any,
    g: Any,
    ahead: Any,
) -> Any:
    """``g[16 k + i] += sum_b c[first + 16 b + i] * block[start + k * stride + 16 b + i]``.

    The sum over the 16 lanes ``i`` is left to the caller, once per step. Features run downwards:
    what :func:`project` read last is still in the first-level cache.
    """

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        block_, start_, stride_, features_, c_, first_, g_, ahead_ = args
        data = pointer_to(context, builder, signature.args[0], block_, start_)
        source = pointer_to(context, builder, signature.args[4], c_, first_)
        sums = context.make_array(signature.args[6])(context, builder, g_).data
        factors = [load(builder, source, b) for b in range(TILE // LANES)]
        last = builder.sub(features_, ir.Constant(INDEX, 1))
        with cgutils.for_range(builder, features_) as loop:
            k = builder.sub(last, loop.index)
            row = builder.gep(data, [builder.mul(k, stride_)])
            for b in range(TILE // LANES):
                following = builder.gep(row, [builder.add(ahead_, ir.Constant(INDEX, b * LANES))])
                prefetch(builder, following)
            cell = builder.gep(sums, [builder.mul(k, ir.Constant(INDEX, LANES))])
            total = load(builder, cell, 0)
            for b, factor in enumerate(factors):
                total = builder.call(fma(builder), [load(builder, row, b), factor, total])
            store(builder, total, cell, 0)
        return context.get_dummy_value()

    array, index = types.Array(types.float32, 1, "C"), types.int64
    return types.none(array, index, index, index, array, index, array, index), code


@emitted
def lane_sums(typing: Any, sums: Any, features: Any, factor: Any, g: Any) -> Any:
    """``g[k] = factor * sum_i sums[16 k + i]``, halves added to halves."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        sums_, features_, factor_, g_ = args
        lane = ir.IntType(32)
        with cgutils.for_range(builder, features_) as loop:
            first = builder.mul(loop.index, ir.Constant(INDEX, LANES))
            total = load(builder, pointer_to(context, builder, signature.args[0], sums_, first), 0)
            half = LANES // 2
            while half:
                low, high = (
                    ir.Constant(ir.VectorType(lane, half), list(range(start, start + half)))
                    for start in (0, half)
                )
                undefined = ir.Constant(total.type, ir.Undefined)
                total = builder.fadd(
                    builder.shuffle_vector(total, undefined, low),
                    builder.shuffle_vector(total, undefined, high),
                )
                half //= 2
            scalar = builder.extract_element(total, ir.Constant(lane, 0))
            target = pointer_to(context, builder, signature.args[3], g_, loop.index)
            builder.store(builder.fmul(scalar, factor_), target)
        return context.get_dummy_value()

    array = types.Array(types.float32, 1, "C")
    return types.none(array, types.int64, types.float32, array), code


@emitted
def residual(
    typing: Any, a: Any, v: Any, rows: Any, width: Any, y: Any, start: Any, r: Any, squares: Any
) -> Any:
    """``r[s] = sum_j v[j] step(a[j * width + s]) - y[start + s]``, ``squares[s] += r[s]^2``.

    For ``s < width``; step(0) = 0.
    """

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        a_, v_, rows_, width_, y_, start_, r_, squares_ = args
        pointer = functools.partial(pointer_to, context, builder)
        types_ = signature.args
        zero = ir.Constant(VECTOR, None)
        cell = cell_of(builder)
        lanes = ir.Constant(INDEX, LANES)
        with cgutils.for_range(builder, builder.sdiv(width_, lanes)) as samples:
            first = builder.mul(samples.index, lanes)
            builder.store(zero, cell)
            with cgutils.for_range(builder, rows_) as loop:
                offset = builder.add(builder.mul(loop.index, width_), first)
                value = load(builder, pointer(types_[0], a_, offset), 0)
                active = builder.fcmp_ordered(">", value, zero)
                weight = entry(context, builder, types_[1], v_, loop.index)
                share = builder.select(active, weight, zero)
                builder.store(builder.fadd(builder.load(cell), share), cell)
            label = load(builder, pointer(types_[4], y_, builder.add(start_, first)), 0)
            error = builder.fsub(builder.load(cell), label)
            store(builder, error, pointer(types_[6], r_, first), 0)
            target = pointer(types_[7], squares_, first)
            square = builder.call(fma(builder), [error, error, load(builder, target, 0)])
            store(builder, square, target, 0)
        return context.get_dummy_value()

    array, index = types.Array(types.float32, 1, "C"), types.int64
    return types.none(array, array, index, index, array, index, array, array), code


@emitted
def weigh_window(
    typing: Any, a: Any, scale: Any, p: Any, v: Any, r: Any, rows: Any, width: Any, out: Any
) -> Any:
    """``out[j * width + s] = f'(scale * a[j * width + s]) * (v[j] * r[s])``.

    With f' of the ``WINDOW`` family: ``p[2]`` where ``p[0] < x < p[1]``, else ``p[3]``.
    """

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        a_, scale_, p_, v_, r_, rows_, width_, out_ = args
        lanes = ir.Constant(INDEX, LANES)
        lower, upper, inside, outside = (
            entry(context, builder, signature.args[2], p_, ir.Constant(INDEX, i)) for i in range(4)
        )
        factor = splat(builder, scale_)
        with cgutils.for_range(builder, rows_) as loop:
            weight = entry(context, builder, signature.args[3], v_, loop.index)
            with cgutils.for_range(builder, builder.sdiv(width_, lanes)) as samples:
                first = builder.mul(samples.index, lanes)
                offset = builder.add(builder.mul(loop.index, width_), first)
                value = load(
                    builder, pointer_to(context, builder, signature.args[0], a_, offset), 0
                )
                x = builder.fmul(value, factor)
                within = builder.and_(
                    builder.fcmp_ordered(">", x, lower), builder.fcmp_ordered("<", x, upper)
                )
                slope = builder.select(within, inside, outside)
                error = load(builder, pointer_to(context, builder, signature.args[4], r_, first), 0)
                result = builder.fmul(slope, builder.fmul(weight, error))
                store(
                    builder,
                    result,
                    pointer_to(context, builder, signature.args[7], out_, offset),
                    0,
                )
        return context.get_dummy_value()

    array, index, scalar = types.Array(types.float32, 1, "C"), types.int64, types.float32
    return types.none(array, scalar, array, array, array, index, index, array), code
