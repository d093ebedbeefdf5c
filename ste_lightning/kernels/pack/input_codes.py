"""Inputs of several bits packed into rows of digits, as compiled code.

A row holds, for one sample (or pixel) and group, the codes of its channels as the micro-kernels
read them: as bytes (``digits``), as words (``wide_digits``), or, digit by digit of two bits, four
codes as 16 times the number of a table, a word (``lookup_2x1``).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from ste_lightning.kernels.jit.arrays import empty, zeros
from ste_lightning.kernels.jit.compiling import compiled, emitted, inlined
from ste_lightning.kernels.jit.simd import copy, copy_32
from ste_lightning.kernels.layout.plan import (
    PLAN_CHANNELS,
    PLAN_FORMAT,
    PLAN_GROUPS,
    PLAN_INPUT_PLANES,
    PLAN_ROW_BYTES,
)

__all__ = ["pack_digits", "sum_64"]

_ARRAY = types.Array(types.uint8, 1, "C")
_I8, _I16, _I32 = (ir.IntType(bits) for bits in (8, 16, 32))
_CODES = ir.VectorType(_I8, 64)


def _splat(kind: Any, value: int) -> Any:
    return ir.Constant(kind, [value] * kind.count)


def _pointer(context: Any, builder: Any, kind: Any, array: Any, start: Any, vector: Any) -> Any:
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [start]), vector.as_pointer())


def _codes(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    value = builder.load(_pointer(context, builder, signature.args[0], args[0], args[1], _CODES))
    value.align = 1
    return value


@emitted
def sum_64(typing: Any, codes: Any, start: Any) -> Any:
    """Return the sum of 64 bytes."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        wide = builder.zext(_codes(context, builder, signature, args), ir.VectorType(_I16, 64))
        kind = ir.FunctionType(_I16, [wide.type])
        name = "llvm.vector.reduce.add.v64i16"
        function = cgutils.get_or_insert_function(builder.module, kind, name)  # type: ignore[no-untyped-call]
        return builder.zext(builder.call(function, [wide]), _I32)

    return types.int32(_ARRAY, types.int64), code


@emitted
def _fours(typing: Any, codes: Any, start: Any, shift: Any, out: Any, at: Any) -> Any:
    """Pack 64 codes' two bits from ``shift`` on, four codes in a word."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        wide, narrow = ir.VectorType(_I32, 16), ir.VectorType(_I16, 16)
        value = _codes(context, builder, signature, args)
        undefined = ir.Constant(_CODES, ir.Undefined)
        by = builder.insert_element(undefined, builder.trunc(args[2], _I8), ir.Constant(_I32, 0))
        lanes = ir.Constant(ir.VectorType(_I32, 64), [0] * 64)
        by = builder.shuffle_vector(by, undefined, lanes)
        digits = builder.and_(builder.lshr(value, by), _splat(_CODES, 3))
        group = builder.bitcast(digits, wide)
        found = group
        for k in range(1, 4):
            found = builder.or_(found, builder.lshr(group, _splat(wide, 6 * k)))
        found = builder.and_(found, _splat(wide, 255))
        found = builder.trunc(builder.shl(found, _splat(wide, 4)), narrow)
        place = _pointer(context, builder, signature.args[3], args[3], args[4], narrow)
        builder.store(found, place).align = 1
        return context.get_dummy_value()

    index = types.int64
    return types.none(_ARRAY, index, index, _ARRAY, index), code


@emitted
def _words(typing: Any, codes: Any, start: Any, out: Any, at: Any) -> Any:
    """Write 64 codes as words."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        wide = ir.VectorType(_I16, 64)
        value = builder.zext(_codes(context, builder, signature, args), wide)
        place = _pointer(context, builder, signature.args[2], args[2], args[3], wide)
        builder.store(value, place).align = 1
        return context.get_dummy_value()

    return types.none(_ARRAY, types.int64, _ARRAY, types.int64), code


@inlined
def _put(fmt, codes, start, shift, out, at):  # type: ignore[no-untyped-def]
    """Pack 64 codes; return how many bytes that took."""
    if fmt == 3 or fmt >= 7:
        copy_32(codes, start, out, at)
        copy_32(codes, start + 32, out, at + 32)
        return 64
    if fmt == 4:
        _words(codes, start, out, at)
        return 128
    _fours(codes, start, shift, out, at)
    return 32


@compiled
def pack_digits(plan, codes, out, plane, sums, first, last):  # type: ignore[no-untyped-def]
    """Pack rows ``first`` to ``last`` of unsigned codes.

    Args: ``codes`` of rows x groups x channels; ``out`` planes of ``plane`` bytes, one for every
    digit of the inputs; ``sums`` of the codes per row and group, or empty.
    """
    fmt, planes, channels, size = (
        plan[PLAN_FORMAT],
        plan[PLAN_INPUT_PLANES],
        plan[PLAN_CHANNELS],
        plan[PLAN_ROW_BYTES],
    )
    groups = plan[PLAN_GROUPS]
    part = zeros(64, np.uint8)
    packed = empty(128, np.uint8)
    whole = channels // 64 * 64
    for row in range(first * groups, last * groups):
        start = row * channels
        copy(codes, start + whole, part, 0, channels - whole)
        for i in range(planes):
            at, end = i * plane + row * size, i * plane + row * size + size
            for c in range(0, whole, 64):
                at += _put(fmt, codes, start + c, 2 * i, out, at)
            if at < end:
                _put(fmt, part, 0, 2 * i, packed, 0)
                copy(packed, 0, out, at, end - at)
        if len(sums) > 0:
            total = sum_64(part, 0)
            for c in range(0, whole, 64):
                total += sum_64(codes, start + c)
            sums[row] = total
