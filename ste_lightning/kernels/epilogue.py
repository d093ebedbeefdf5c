"""From counts to results: 32 channels of one row, as vector instructions.

``finish_16`` and ``finish_32`` take counts X of 16 and of 32 bits and write 32 results to
``out[place:]``: ``((slope X + from_row + columns) / 2 + extra) scale + shift``.

Args (in compiled code): the counts, read from ``at``; ``slope`` and ``from_row`` int32;
``columns`` int32, ``scale`` and ``shift`` float32, read from ``column``; ``extra`` float32, read
from ``extra_at``; ``out`` float32. There is no fused multiply-add, so that the results have the
rounding of two torch operators.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from ste_lightning.kernels.compiling import emitted, inlined

__all__ = ["finish_row", "finish_sums"]

_LANES = 32


def _splat(builder: Any, scalar: Any) -> Any:
    kind = ir.VectorType(scalar.type, _LANES)
    undefined = ir.Constant(kind, ir.Undefined)
    one = builder.insert_element(undefined, scalar, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(
        one, undefined, ir.Constant(ir.VectorType(ir.IntType(32), _LANES), [0] * _LANES)
    )


def _finish(count_type: Any) -> Any:
    """Return the epilogue for counts of a type."""
    bits = 16 if count_type is types.uint16 else 32

    def finish(
        typing: Any,
        total: Any,
        at: Any,
        slope: Any,
        from_row: Any,
        columns: Any,
        scale: Any,
        shift: Any,
        column: Any,
        extra: Any,
        extra_at: Any,
        out: Any,
        place: Any,
    ) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            total_, at_, slope_, from_row_, columns_, scale_, shift_, column_, *rest = args
            extra_, extra_at_, out_, place_ = rest
            kinds = signature.args

            def pointer(position: int, array: Any, start: Any, element: Any) -> Any:
                data = context.make_array(kinds[position])(context, builder, array).data
                vector = ir.VectorType(element, _LANES).as_pointer()
                return builder.bitcast(builder.gep(data, [start]), vector)

            def load(position: int, array: Any, start: Any, element: Any) -> Any:
                value = builder.load(pointer(position, array, start, element))
                value.align = 2
                return value

            word, real = ir.IntType(32), ir.FloatType()
            counts = load(0, total_, at_, ir.IntType(bits))
            if bits == 16:
                counts = builder.zext(counts, ir.VectorType(word, _LANES))
            constant = builder.add(load(4, columns_, column_, word), _splat(builder, from_row_))
            doubled = builder.add(builder.mul(counts, _splat(builder, slope_)), constant)
            floats = ir.VectorType(real, _LANES)
            half = ir.Constant(floats, [0.5] * _LANES)
            value = builder.fmul(builder.sitofp(doubled, floats), half)
            value = builder.fadd(value, load(8, extra_, extra_at_, real))
            value = builder.fmul(value, load(5, scale_, column_, real))
            value = builder.fadd(value, load(6, shift_, column_, real))
            builder.store(value, pointer(10, out_, place_, real)).align = 4
            return context.get_dummy_value()

        index, number = types.int64, types.int32
        integers, reals = types.Array(types.int32, 1, "C"), types.Array(types.float32, 1, "C")
        counts = types.Array(count_type, 1, "C")
        return types.none(
            *(counts, index, number, number, integers, reals, reals, index),
            *(reals, index, reals, index),
        ), code

    return emitted(finish)


finish_16 = _finish(types.uint16)
finish_32 = _finish(types.int32)


@inlined
def finish_sums(  # type: ignore[no-untyped-def]
    sums, at, slope, from_row, columns, scale, shift, column, extra, extra_at, out, place, count
):
    """Write ``count`` results of one row from 32-bit sums."""
    n = 0
    while n + 32 <= count:
        c, e, p = column + n, extra_at + n, place + n
        finish_32(sums, at + n, slope, from_row, columns, scale, shift, c, extra, e, out, p)
        n += 32
    while n < count:
        doubled = slope * sums[at + n] + from_row + columns[column + n]
        value = np.float32(0.5) * np.float32(doubled) + extra[extra_at + n]
        out[place + n] = value * scale[column + n] + shift[column + n]
        n += 1


@inlined
def finish_row(  # type: ignore[no-untyped-def]
    short,
    s16,
    total,
    at,
    slope,
    from_row,
    columns,
    scale,
    shift,
    column,
    extra,
    extra_at,
    out,
    place,
    count,
):
    """Write ``count`` results of one row, from 16-bit sums if ``short``, else from ``total``."""
    if not short:
        finish_sums(
            *(total, at, slope, from_row, columns, scale, shift, column, extra, extra_at),
            *(out, place, count),
        )
        return
    n = 0
    while n + 32 <= count:
        c, e, p = column + n, extra_at + n, place + n
        finish_16(s16, at + n, slope, from_row, columns, scale, shift, c, extra, e, out, p)
        n += 32
    while n < count:
        doubled = slope * np.int32(s16[at + n]) + from_row + columns[column + n]
        value = np.float32(0.5) * np.float32(doubled) + extra[extra_at + n]
        out[place + n] = value * scale[column + n] + shift[column + n]
        n += 1
