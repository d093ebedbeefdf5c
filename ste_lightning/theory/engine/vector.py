"""The loops over all data and all lanes, as vector instructions.

Plain numba loops over a run-time number of lanes keep their sums in memory and stay four times
slower than the cache allows; so the loops are emitted as LLVM code over ``<8 x float>``, one
register of AVX2.

A tile holds 32 lanes, each a row of a sample, feature by feature: ``tile[k, lane]``. A step reads
it twice: for its pre-activations ``sum_k w[k] tile[k, lane]`` and, once the residuals are known,
for its share ``sum_lane c[lane] tile[k, lane]`` of the gradient. The second reading of a tile and
the first one of a later tile are one loop: four vectors of coefficients and four of
pre-activations fit into sixteen registers together, and while new data come from the outer cache
there is work to do on near ones.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from ste_lightning.kernels.jit.compiling import emitted
from ste_lightning.theory.engine.llvm import (
    INDEX,
    LANES,
    VECTOR,
    cell_of,
    fma,
    load,
    pointer_to,
    splat,
    store,
)

__all__ = [
    "LANES",
    "TILE",
    "accumulate",
    "accumulate_and_project",
    "gather",
    "project",
    "strand_sums",
]

_VECTORS = 4
TILE = _VECTORS * LANES
_FLOATS, _INT = types.Array(types.float32, 1, "C"), types.int64
_INTS = types.Array(_INT, 1, "C")


def _times(builder: Any, index: Any, factor: int) -> Any:
    return builder.mul(index, ir.Constant(INDEX, factor))


def _projection(builder: Any, tile: Any, w: Any) -> tuple[Callable[[Any], None], list[Any]]:
    """Return the code for one feature of ``sum_k w[k] tile[k, lane]``, and the sums' cells."""
    sums = [cell_of(builder) for _ in range(_VECTORS)]
    for cell in sums:
        builder.store(ir.Constant(VECTOR, None), cell)

    def step(k: Any) -> None:
        row = builder.gep(tile, [_times(builder, k, TILE)])
        weight = splat(builder, builder.load(builder.gep(w, [k])))
        for i, cell in enumerate(sums):
            terms = [load(builder, row, i), weight, builder.load(cell)]
            builder.store(builder.call(fma(builder), terms), cell)

    return step, sums


def _accumulation(builder: Any, tile: Any, c: Any, sums: Any) -> Callable[[Any], None]:
    """Return the code for one feature of ``sums[k, i] += sum_b c[8 b + i] tile[k, 8 b + i]``."""
    factors = [load(builder, c, b) for b in range(_VECTORS)]

    def step(k: Any) -> None:
        row = builder.gep(tile, [_times(builder, k, TILE)])
        cell = builder.gep(sums, [_times(builder, k, LANES)])
        total = load(builder, cell, 0)
        for b, factor in enumerate(factors):
            total = builder.call(fma(builder), [load(builder, row, b), factor, total])
        store(builder, total, cell, 0)

    return step


def _write(builder: Any, sums: list[Any], target: Any) -> None:
    for i, cell in enumerate(sums):
        store(builder, builder.load(cell), target, i)


@emitted
def gather(typing: Any, z: Any, rows: Any, at: Any, features: Any, data: Any, tile: Any) -> Any:
    """``data[tile + 32 k + l] = z[features * rows[at + l] + k]`` for the 32 lanes ``l``."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        z_, rows_, at_, features_, data_, tile_ = args
        pointer = functools.partial(pointer_to, context, builder)
        target = pointer(_FLOATS, data_, tile_)
        for i in range(_VECTORS):
            lanes = [ir.Constant(INDEX, i * LANES + lane) for lane in range(LANES)]
            numbers = (
                builder.load(pointer(_INTS, rows_, builder.add(at_, lane))) for lane in lanes
            )
            sources = [pointer(_FLOATS, z_, builder.mul(row, features_)) for row in numbers]
            with cgutils.for_range(builder, features_) as loop:
                vector = ir.Constant(VECTOR, ir.Undefined)
                for lane, source in enumerate(sources):
                    value = builder.load(builder.gep(source, [loop.index]))
                    place = ir.Constant(ir.IntType(32), lane)
                    vector = builder.insert_element(vector, value, place)
                store(builder, vector, builder.gep(target, [_times(builder, loop.index, TILE)]), i)
        return context.get_dummy_value()

    return types.none(_FLOATS, _INTS, _INT, _INT, _FLOATS, _INT), code


@emitted
def project(typing: Any, data: Any, tile: Any, features: Any, w: Any, a: Any, to: Any) -> Any:
    """``a[to + l] = sum_k w[k] * data[tile + 32 k + l]`` for the 32 lanes ``l``.

    Args (in compiled code): ``data``, ``w``, ``a`` float32 arrays; the rest int64.
    """

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = functools.partial(pointer_to, context, builder, _FLOATS)
        zero = ir.Constant(INDEX, 0)
        step, sums = _projection(builder, pointer(args[0], args[1]), pointer(args[3], zero))
        with cgutils.for_range(builder, args[2]) as loop:
            step(loop.index)
        _write(builder, sums, pointer(args[4], args[5]))
        return context.get_dummy_value()

    return types.none(_FLOATS, _INT, _INT, _FLOATS, _FLOATS, _INT), code


@emitted
def accumulate(
    typing: Any, data: Any, tile: Any, features: Any, c: Any, at: Any, sums: Any, to: Any
) -> Any:
    """``sums[to + 8 k + i] += sum_b c[at + 8 b + i] * data[tile + 32 k + 8 b + i]``."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = functools.partial(pointer_to, context, builder, _FLOATS)
        places = (pointer(args[i], args[i + 1]) for i in (0, 3, 5))
        step = _accumulation(builder, *places)
        with cgutils.for_range(builder, args[2]) as loop:
            step(loop.index)
        return context.get_dummy_value()

    return types.none(_FLOATS, _INT, _INT, _FLOATS, _INT, _FLOATS, _INT), code


@emitted
def accumulate_and_project(
    typing: Any,
    data: Any,
    tile: Any,
    later: Any,
    features: Any,
    c: Any,
    at: Any,
    sums: Any,
    to: Any,
    w: Any,
    a: Any,
) -> Any:
    """:func:`accumulate` the tile at ``tile``, :func:`project` that at ``later`` to ``a[at:]``."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data_, tile_, later_, features_, c_, at_, sums_, to_, w_, a_ = args
        pointer = functools.partial(pointer_to, context, builder, _FLOATS)
        near = _accumulation(builder, pointer(data_, tile_), pointer(c_, at_), pointer(sums_, to_))
        far, found = _projection(
            builder, pointer(data_, later_), pointer(w_, ir.Constant(INDEX, 0))
        )
        with cgutils.for_range(builder, features_) as loop:
            near(loop.index)
            far(loop.index)
        _write(builder, found, pointer(a_, at_))
        return context.get_dummy_value()

    integers = [_INT] * 3
    return types.none(_FLOATS, *integers, _FLOATS, _INT, _FLOATS, _INT, _FLOATS, _FLOATS), code


@emitted
def strand_sums(typing: Any, sums: Any, features: Any, factor: Any, g: Any) -> Any:
    """``g[k] = factor * sum_i sums[8 k + i] + sums[8 (features + k) + i]``, halves to halves."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        sums_, features_, factor_, g_ = args
        pointer = functools.partial(pointer_to, context, builder, _FLOATS)
        lane = ir.IntType(32)
        with cgutils.for_range(builder, features_) as loop:
            places = (loop.index, builder.add(features_, loop.index))
            low, high = (
                load(builder, pointer(sums_, _times(builder, place, LANES)), 0) for place in places
            )
            total = builder.fadd(low, high)
            half = LANES // 2
            while half:
                low, high = (
                    builder.shuffle_vector(
                        total,
                        ir.Constant(total.type, ir.Undefined),
                        ir.Constant(ir.VectorType(lane, half), list(range(first, first + half))),
                    )
                    for first in (0, half)
                )
                total = builder.fadd(low, high)
                half //= 2
            scalar = builder.extract_element(total, ir.Constant(lane, 0))
            builder.store(builder.fmul(scalar, factor_), pointer(g_, loop.index))
        return context.get_dummy_value()

    return types.none(_FLOATS, _INT, types.float32, _FLOATS), code
