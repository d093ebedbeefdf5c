"""Vector instructions that quantize floats with one step: 32 at a time, to a byte each."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from ste_lightning.kernels.compiling import emitted
from ste_lightning.kernels.llvm import load, pointer_to, splat

__all__ = ["levels_32", "sum_32"]

_I8, _I32, _F32 = ir.IntType(8), ir.IntType(32), ir.FloatType()
_FLOATS, _BYTES = types.Array(types.float32, 1, "C"), types.Array(types.uint8, 1, "C")
_ROUND = 12582912.0  # x + c - c rounds to the nearest integer, half to even, where |x| < 2^22


@emitted
def levels_32(
    typing: Any, x: Any, start: Any, s: Any, low: Any, high: Any, zero: Any, out: Any, at: Any
) -> Any:
    """Write the bytes round(clip(x / s, low, high)) - zero; return the bits of not-a-numbers."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        x_, start_, s_, low_, high_, zero_, out_, at_ = args
        kinds, wide = signature.args, ir.VectorType(_F32, 32)
        values = load(builder, pointer_to(context, builder, kinds[0], x_, start_), wide)
        v = builder.fdiv(values, splat(builder, s_, 32))
        strange = builder.fcmp_unordered("uno", v, v)
        least, most = splat(builder, low_, 32), splat(builder, high_, 32)
        v = builder.select(builder.fcmp_ordered("<", v, least), least, v)
        v = builder.select(builder.fcmp_ordered("<", most, v), most, v)
        c = splat(builder, ir.Constant(_F32, _ROUND), 32)
        v = builder.fsub(builder.fadd(v, c), c)
        v = builder.fptosi(builder.fsub(v, splat(builder, zero_, 32)), ir.VectorType(_I32, 32))
        target = builder.bitcast(
            pointer_to(context, builder, kinds[6], out_, at_),
            ir.VectorType(_I8, 32).as_pointer(),
        )
        builder.store(builder.trunc(v, ir.VectorType(_I8, 32)), target).align = 1
        return builder.bitcast(strange, _I32)

    index, number = types.int64, types.float32
    return types.uint32(_FLOATS, index, number, number, number, number, _BYTES, index), code


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
        return builder.sext(total, ir.IntType(64))

    return types.int64(_BYTES, types.int64), code
