"""Vector instructions of floats quantized with one step, 32 at a time."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from ste_lightning.kernels.jit.compiling import emitted
from ste_lightning.kernels.jit.llvm import load, pointer_to, splat, store

__all__ = ["ROUND", "differentiate_32", "levels_32", "sum_32"]

_I8, _I32, _I64, _F32 = ir.IntType(8), ir.IntType(32), ir.IntType(64), ir.FloatType()
_FLOATS, _BYTES = types.Array(types.float32, 1, "C"), types.Array(types.uint8, 1, "C")
ROUND = 12582912.0  # x + c - c rounds to the nearest integer, half to even, where |x| < 2^22
_REALS = ir.VectorType(_F32, 32)


def _clipped(builder: Any, v: Any, low: Any, high: Any) -> Any:
    v = builder.select(builder.fcmp_ordered("<", v, low), low, v)
    return builder.select(builder.fcmp_ordered("<", high, v), high, v)


def _rounded(builder: Any, v: Any) -> Any:
    c = splat(builder, ir.Constant(_F32, ROUND), 32)
    return builder.fsub(builder.fadd(v, c), c)


@emitted
def levels_32(
    typing: Any,
    x: Any,
    at: Any,
    s: Any,
    z: Any,
    low: Any,
    high: Any,
    least: Any,
    most: Any,
    origin: Any,
    out: Any,
    to: Any,
) -> Any:
    """Write the bytes round(clip(v, low, high)) - origin, v = x / s + z.

    Returns, in its lower half, the bits of least <= v <= most, in its upper those of NaN.
    """

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        x_, at_, s_, z_, low_, high_, least_, most_, origin_, out_, to_ = args
        kinds = signature.args
        values = load(builder, pointer_to(context, builder, kinds[0], x_, at_), _REALS)
        v = builder.fdiv(values, splat(builder, s_, 32))
        v = builder.fadd(v, splat(builder, z_, 32))
        strange = builder.fcmp_unordered("uno", v, v)
        inside = builder.and_(
            builder.fcmp_ordered("<=", splat(builder, least_, 32), v),
            builder.fcmp_ordered("<=", v, splat(builder, most_, 32)),
        )
        v = _clipped(builder, v, splat(builder, low_, 32), splat(builder, high_, 32))
        v = builder.fsub(_rounded(builder, v), splat(builder, origin_, 32))
        v = builder.fptosi(v, ir.VectorType(_I32, 32))
        target = builder.bitcast(
            pointer_to(context, builder, kinds[9], out_, to_),
            ir.VectorType(_I8, 32).as_pointer(),
        )
        builder.store(builder.trunc(v, ir.VectorType(_I8, 32)), target).align = 1
        lower, upper = (
            builder.zext(builder.bitcast(bits, _I32), _I64) for bits in (inside, strange)
        )
        return builder.or_(lower, builder.shl(upper, ir.Constant(_I64, 32)))

    index, number = types.int64, types.float32
    return types.uint64(_FLOATS, index, *[number] * 7, _BYTES, index), code


@emitted
def sum_32(typing: Any, octets: Any, start: Any) -> Any:
    """Return the sum of 32 signed bytes."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = pointer_to(context, builder, signature.args[0], args[0], args[1])
        octets_, wide = ir.VectorType(_I8, 32), ir.VectorType(_I32, 32)
        # unsigned, 128 more: those are summed by one instruction (VPSADBW)
        moved = builder.xor(load(builder, pointer, octets_), ir.Constant(octets_, [128] * 32))
        kind = ir.FunctionType(_I32, [wide])
        name = "llvm.vector.reduce.add.v32i32"
        reduce = cgutils.get_or_insert_function(builder.module, kind, name)  # type: ignore[no-untyped-call]
        total = builder.call(reduce, [builder.zext(moved, wide)])
        total = builder.sub(total, ir.Constant(_I32, 32 * 128))
        return builder.sext(total, _I64)

    return types.int64(_BYTES, types.int64), code


@emitted
def differentiate_32(
    typing: Any,
    grad: Any,
    x: Any,
    at: Any,
    s: Any,
    start: Any,
    low: Any,
    high: Any,
    sums: Any,
) -> Any:
    """Multiply 32 of ``grad`` by dy/dx.

    Add them times dy/ds to the first 32 of the 64 float64 ``sums``, times 1 - dy/dx to the others.
    """

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        grad_, x_, at_, s_, start_, low_, high_, sums_ = args
        kinds = signature.args
        place = pointer_to(context, builder, kinds[0], grad_, at_)
        g = load(builder, place, _REALS)
        v = load(builder, pointer_to(context, builder, kinds[1], x_, at_), _REALS)
        v = builder.fdiv(builder.fsub(v, splat(builder, start_, 32)), splat(builder, s_, 32))
        least, most = splat(builder, low_, 32), splat(builder, high_, 32)
        inside = builder.and_(
            builder.fcmp_ordered("<", least, v), builder.fcmp_ordered("<", v, most)
        )
        clipped = _clipped(builder, v, least, most)
        passed = builder.select(inside, clipped, ir.Constant(_REALS, None))
        by_step = builder.fmul(g, builder.fsub(_rounded(builder, clipped), passed))
        one = ir.Constant(_REALS, [1.0] * 32)
        nothing = ir.Constant(_REALS, None)
        store(builder, builder.fmul(g, builder.select(inside, one, nothing)), place, 4)
        by_start = builder.fmul(g, builder.select(inside, nothing, one))
        kind = ir.VectorType(ir.DoubleType(), 32)
        for first, part in ((0, by_step), (32, by_start)):
            total = pointer_to(context, builder, kinds[7], sums_, ir.Constant(_I64, first))
            added = builder.fadd(load(builder, total, kind, 8), builder.fpext(part, kind))
            store(builder, added, total, 8)
        return context.get_dummy_value()

    number, doubles = types.float32, types.Array(types.float64, 1, "C")
    return types.none(
        *(_FLOATS, _FLOATS, types.int64, number, number, number, number, doubles)
    ), code
