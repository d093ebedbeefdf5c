"""Emitting LLVM code over ``<8 x float>``: the words that the engine's loops are written in."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils

__all__ = [
    "INDEX",
    "LANES",
    "VECTOR",
    "cell_of",
    "entry",
    "fma",
    "load",
    "pointer_to",
    "splat",
    "store",
]

LANES = 8

_FLOAT = ir.FloatType()
VECTOR = ir.VectorType(_FLOAT, LANES)
INDEX = ir.IntType(64)


def fma(builder: Any) -> Any:
    """Return the intrinsic that multiplies and adds vectors, fused where the machine can."""
    kind = ir.FunctionType(VECTOR, [VECTOR, VECTOR, VECTOR])
    name = f"llvm.fmuladd.v{LANES}f32"
    return cgutils.get_or_insert_function(builder.module, kind, name)  # type: ignore[no-untyped-call]


def cell_of(builder: Any) -> Any:
    """Return a place on the stack for a vector."""
    return cgutils.alloca_once(builder, VECTOR)  # type: ignore[no-untyped-call]


def pointer_to(context: Any, builder: Any, array_type: Any, array: Any, offset: Any) -> Any:
    """Return the address of ``array[offset]``."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(data, [offset])


def load(builder: Any, pointer: Any, vectors: int) -> Any:
    """Return the ``vectors``-th vector after ``pointer``; aligned to a float, no more."""
    element = builder.gep(pointer, [ir.Constant(INDEX, vectors * LANES)])
    value = builder.load(builder.bitcast(element, VECTOR.as_pointer()))
    value.align = 4
    return value


def store(builder: Any, value: Any, pointer: Any, vectors: int) -> None:
    """Write ``value`` to the ``vectors``-th vector after ``pointer``."""
    element = builder.gep(pointer, [ir.Constant(INDEX, vectors * LANES)])
    builder.store(value, builder.bitcast(element, VECTOR.as_pointer())).align = 4


def entry(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    """Return the scalar ``array[index]``, in all lanes."""
    return splat(builder, builder.load(pointer_to(context, builder, array_type, array, index)))


def splat(builder: Any, scalar: Any) -> Any:
    """Return the vector whose lanes all hold ``scalar``."""
    undefined = ir.Constant(VECTOR, ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.Constant(ir.IntType(32), 0))
    mask = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(first, undefined, mask)
