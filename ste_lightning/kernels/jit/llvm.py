"""Emitting LLVM code over vectors: the words that the kernels' loops are written in."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils

__all__ = ["fetch", "load", "narrowed", "pointer_to", "splat", "store", "widened"]


def pointer_to(context: Any, builder: Any, kind: Any, array: Any, start: Any) -> Any:
    """Return a pointer to an element of an array of numba's type ``kind``."""
    return builder.gep(context.make_array(kind)(context, builder, array).data, [start])


def load(builder: Any, pointer: Any, kind: Any, align: int = 1) -> Any:
    """Return the value of LLVM's type ``kind`` at a pointer aligned to ``align`` bytes."""
    value = builder.load(builder.bitcast(pointer, kind.as_pointer()))
    value.align = align
    return value


def store(builder: Any, value: Any, pointer: Any, align: int = 1) -> None:
    """Write a value to a pointer aligned to ``align`` bytes."""
    builder.store(value, builder.bitcast(pointer, value.type.as_pointer())).align = align


def widened(builder: Any, halves: Any) -> Any:
    """Return bfloat16 numbers, given as 16 bits each, as float32."""
    lanes = halves.type.count
    word = ir.VectorType(ir.IntType(32), lanes)
    high = builder.shl(builder.zext(halves, word), ir.Constant(word, [16] * lanes))
    return builder.bitcast(high, ir.VectorType(ir.FloatType(), lanes))


def narrowed(builder: Any, values: Any) -> Any:
    """Return the upper 16 bits of float32 numbers: what bfloat16 holds of them, not rounded."""
    lanes = values.type.count
    word = ir.VectorType(ir.IntType(32), lanes)
    high = builder.lshr(builder.bitcast(values, word), ir.Constant(word, [16] * lanes))
    return builder.trunc(high, ir.VectorType(ir.IntType(16), lanes))


def splat(builder: Any, scalar: Any, lanes: int) -> Any:
    """Return a vector with the scalar in every lane."""
    index = ir.IntType(32)
    undefined = ir.Constant(ir.VectorType(scalar.type, lanes), ir.Undefined)
    one = builder.insert_element(undefined, scalar, ir.Constant(index, 0))
    return builder.shuffle_vector(
        one, undefined, ir.Constant(ir.VectorType(index, lanes), [0] * lanes)
    )


def fetch(builder: Any, pointer: Any) -> None:
    """Have a cache line read into the second cache: a hint, of any address."""
    octets, flag = ir.IntType(8).as_pointer(), ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [octets, flag, flag, flag])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")  # type: ignore[no-untyped-call]
    hints = [ir.Constant(flag, hint) for hint in (0, 2, 1)]  # read, second cache, data
    builder.call(function, [builder.bitcast(pointer, octets), *hints])
