"""From pre-activations to a sample's residual and to its rows' coefficients in the gradient.

The lanes of a unit are those of :mod:`ste_lightning.theory.engine.vector`: row j of sample s is
lane ``j * width + s``, and ``width`` is a multiple of eight.
"""

from __future__ import annotations

import functools
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
    entry,
    fma,
    load,
    pointer_to,
    splat,
    store,
)

__all__ = ["residual", "weigh", "window_tile"]

_FLOATS, _INT = types.Array(types.float32, 1, "C"), types.int64
_VECTORS = 4  # of a tile


@emitted
def residual(
    typing: Any,
    a: Any,
    v: Any,
    rows: Any,
    width: Any,
    y: Any,
    start: Any,
    r: Any,
    squares: Any,
    to: Any,
) -> Any:
    """``r[s] = sum_j v[j] step(a[j * width + s]) - y[start + s]``, ``squares[to + s] += r[s]^2``.

    For ``s < width``; step(0) = 0.
    """

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        a_, v_, rows_, width_, y_, start_, r_, squares_, to_ = args
        pointer = functools.partial(pointer_to, context, builder, _FLOATS)
        zero = ir.Constant(VECTOR, None)
        cell = cell_of(builder)
        lanes = ir.Constant(INDEX, LANES)
        with cgutils.for_range(builder, builder.sdiv(width_, lanes)) as samples:
            first = builder.mul(samples.index, lanes)
            builder.store(zero, cell)
            with cgutils.for_range(builder, rows_) as loop:
                offset = builder.add(builder.mul(loop.index, width_), first)
                value = load(builder, pointer(a_, offset), 0)
                active = builder.fcmp_ordered(">", value, zero)
                weight = entry(context, builder, _FLOATS, v_, loop.index)
                share = builder.select(active, weight, zero)
                builder.store(builder.fadd(builder.load(cell), share), cell)
            label = load(builder, pointer(y_, builder.add(start_, first)), 0)
            error = builder.fsub(builder.load(cell), label)
            store(builder, error, pointer(r_, first), 0)
            target = pointer(squares_, builder.add(to_, first))
            square = builder.call(fma(builder), [error, error, load(builder, target, 0)])
            store(builder, square, target, 0)
        return context.get_dummy_value()

    return types.none(_FLOATS, _FLOATS, _INT, _INT, _FLOATS, _INT, _FLOATS, _FLOATS, _INT), code


@emitted
def window_tile(
    typing: Any,
    a: Any,
    scale: Any,
    p: Any,
    v: Any,
    y: Any,
    start: Any,
    rows: Any,
    squares: Any,
    to: Any,
    c: Any,
) -> Any:
    """Write ``c = f'(scale * a) * v r`` where a unit is one tile, m = 1, 2 or 4, from registers.

    With f' of the ``WINDOW`` family: ``p[2]`` where ``p[0] < x < p[1]``, else ``p[3]``. The
    other arguments are those of :func:`residual`.
    """

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        a_, scale_, p_, v_, y_, start_, rows_, squares_, to_, c_ = args
        pointer = functools.partial(pointer_to, context, builder, _FLOATS)
        splatted = functools.partial(entry, context, builder, _FLOATS)
        index = functools.partial(ir.Constant, INDEX)
        zero = ir.Constant(VECTOR, None)
        source, target = (pointer(array, index(0)) for array in (a_, c_))
        labels, sums = pointer(y_, start_), pointer(squares_, to_)
        lower, upper, inside, outside = (splatted(p_, index(i)) for i in range(4))
        factor = splat(builder, scale_)
        for m in (1, 2, 4):
            with builder.if_then(builder.icmp_signed("==", rows_, index(m))):
                weights = [splatted(v_, index(j)) for j in range(m)]
                for s in range(_VECTORS // m):
                    places = range(s, _VECTORS, _VECTORS // m)
                    values = [load(builder, source, place) for place in places]
                    total = zero
                    for value, weight in zip(values, weights, strict=True):
                        active = builder.fcmp_ordered(">", value, zero)
                        total = builder.fadd(total, builder.select(active, weight, zero))
                    error = builder.fsub(total, load(builder, labels, s))
                    square = builder.call(fma(builder), [error, error, load(builder, sums, s)])
                    store(builder, square, sums, s)
                    for place, value, weight in zip(places, values, weights, strict=True):
                        x = builder.fmul(value, factor)
                        within = builder.and_(
                            builder.fcmp_ordered(">", x, lower),
                            builder.fcmp_ordered("<", x, upper),
                        )
                        slope = builder.select(within, inside, outside)
                        share = builder.fmul(slope, builder.fmul(weight, error))
                        store(builder, share, target, place)
        return context.get_dummy_value()

    return types.none(
        _FLOATS, types.float32, _FLOATS, _FLOATS, _FLOATS, _INT, _INT, _FLOATS, _INT, _FLOATS
    ), code


@emitted
def weigh(typing: Any, c: Any, v: Any, r: Any, rows: Any, width: Any) -> Any:
    """``c[j * width + s] *= v[j] * r[s]``."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        c_, v_, r_, rows_, width_ = args
        pointer = functools.partial(pointer_to, context, builder, _FLOATS)
        lanes = ir.Constant(INDEX, LANES)
        with cgutils.for_range(builder, rows_) as loop:
            weight = entry(context, builder, _FLOATS, v_, loop.index)
            with cgutils.for_range(builder, builder.sdiv(width_, lanes)) as samples:
                first = builder.mul(samples.index, lanes)
                target = pointer(c_, builder.add(builder.mul(loop.index, width_), first))
                error = load(builder, pointer(r_, first), 0)
                product = builder.fmul(load(builder, target, 0), builder.fmul(weight, error))
                store(builder, product, target, 0)
        return context.get_dummy_value()

    return types.none(_FLOATS, _FLOATS, _FLOATS, _INT, _INT), code
