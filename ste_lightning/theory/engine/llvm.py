"""Emitting LLVM code over ``<8 x float>``: the words that the engine's loops are written in."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils

from ste_lightning.kernels.jit import llvm
from ste_lightning.kernels.jit.llvm import pointer_to

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


def load(builder: Any, pointer: Any, vectors: int) -> Any:
    """Return the ``vectors``-th vector after ``pointer``; aligned to a float, no more."""
    return llvm.load(builder, _after(builder, pointer, vectors), VECTOR, align=4)


def store(builder: Any, value: Any, pointer: Any, vectors: int) -> None:
    """Write ``value`` to the ``vectors``-th vector after ``pointer``."""
    llvm.store(builder, value, _after(builder, pointer, vectors), align=4)


def _after(builder: Any, pointer: Any, vectors: int) -> Any:
    return builder.gep(pointer, [ir.Constant(INDEX, vectors * LANES)])


def entry(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    """Return the scalar ``array[index]``, in all lanes."""
    return splat(builder, builder.load(pointer_to(context, builder, array_type, array, index)))


def splat(builder: Any, scalar: Any) -> Any:
    """Return the vector whose lanes all hold ``scalar``."""
    return llvm.splat(builder, scalar, LANES)
