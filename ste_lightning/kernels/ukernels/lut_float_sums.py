"""Sums of floats times bits by look-up: the micro-kernel of gradients of binary products.

A bit stands for 1 or for ``low`` (-1 or 0). Four rows of 16 floats have 16 sums, one for every
pattern of four bits; a table of them replaces four multiplications and additions by one addition.
Eight tables are added per step.

The gradients' functions read a convolution's ``shape``: 0 images, 1 groups, 2 channels and 3
outputs per group, 4-5 the input's size, 6-7 the output's, 8-9 the kernel's, 10-11 stride, 12-13
padding, 14-15 dilation. Taps are the kernel's positions in row-major order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from ste_lightning.kernels.jit.arrays import empty
from ste_lightning.kernels.jit.compiling import emitted, nested
from ste_lightning.kernels.jit.llvm import load, pointer_to, splat, store

__all__ = [
    "ENTRIES",
    "FIELDS",
    "LANES",
    "ROWS",
    "TABLES",
    "add_8",
    "add_16",
    "add_sums",
    "fill_table",
    "table_room",
]

FIELDS = 16  # of a shape
LANES = 16
ENTRIES = 16 * LANES  # floats of a table
TABLES = 8  # of a block
ROWS = 4 * TABLES  # that a block sums

_FLOATS = types.Array(types.float32, 1, "C")
_BYTES = types.Array(types.uint8, 1, "C")
_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_I8, _I64 = ir.IntType(8), ir.IntType(64)


def _add(lanes: int) -> Any:
    kind = ir.VectorType(ir.FloatType(), lanes)

    def add(typing: Any, x: Any, at: Any, out: Any, to: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            source = pointer_to(context, builder, signature.args[0], args[0], args[1])
            target = pointer_to(context, builder, signature.args[2], args[2], args[3])
            total = builder.fadd(load(builder, source, kind, 4), load(builder, target, kind, 4))
            store(builder, total, target, 4)
            return context.get_dummy_value()

        return types.none(_FLOATS, types.int64, _FLOATS, types.int64), code

    return emitted(add)


add_8, add_16 = _add(8), _add(16)


@emitted
def fill_table(
    typing: Any, x: Any, at: Any, stride: Any, count: Any, low: Any, tables: Any, number: Any
) -> Any:
    """Write the table of the rows ``x[at + i * stride:]``, i < ``count`` <= 4; others are zero.

    Entry e of table ``number`` is the sum over i of row i times (1 if bit i of e is set, else
    ``low``).
    """

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        x_, at_, stride_, count_, low_, tables_, number_ = args
        lows = splat(builder, low_, LANES)
        rows = []
        for i in range(4):
            cell = cgutils.alloca_once_value(builder, ir.Constant(_VECTOR, None))  # type: ignore[no-untyped-call]
            with builder.if_then(builder.icmp_signed(">", count_, ir.Constant(_I64, i))):
                place = builder.add(at_, builder.mul(stride_, ir.Constant(_I64, i)))
                row = load(
                    builder, pointer_to(context, builder, signature.args[0], x_, place), _VECTOR, 4
                )
                builder.store(row, cell)
            rows.append(builder.load(cell))
        choices = [(builder.fmul(row, lows), row) for row in rows]
        pairs = [
            [builder.fadd(choices[k][e & 1], choices[k + 1][e >> 1]) for e in range(4)]
            for k in (0, 2)
        ]
        start = builder.mul(number_, ir.Constant(_I64, 16 * LANES))
        target = pointer_to(context, builder, signature.args[5], tables_, start)
        for e in range(16):
            total = builder.fadd(pairs[0][e & 3], pairs[1][e >> 2])
            store(builder, total, builder.gep(target, [ir.Constant(_I64, e * LANES)]), 4)
        return context.get_dummy_value()

    index = types.int64
    return types.none(_FLOATS, index, index, index, types.float32, _FLOATS, index), code


@emitted
def add_sums(
    typing: Any, patterns: Any, at: Any, count: Any, tables: Any, sums: Any, to: Any
) -> Any:
    """Add to ``sums[to + 16 k:]``, k < ``count``, one entry of every table.

    Byte ``patterns[at + 8 k + j]`` is eight times the number of the entry of table j.
    """

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        patterns_, at_, count_, tables_, sums_, to_ = args
        zero = ir.Constant(_I64, 0)
        source = pointer_to(context, builder, signature.args[0], patterns_, at_)
        target = pointer_to(context, builder, signature.args[4], sums_, to_)
        table = pointer_to(context, builder, signature.args[3], tables_, zero)
        table = builder.bitcast(table, _I64.as_pointer())
        with cgutils.for_range(builder, count_) as loop:
            here = builder.gep(source, [builder.mul(loop.index, ir.Constant(_I64, TABLES))])
            parts = []
            for j in range(TABLES):
                byte = builder.load(builder.gep(here, [ir.Constant(_I64, j)]))
                entry = builder.zext(byte, _I64)  # 64 bytes are eight words
                first = builder.gep(table, [ir.Constant(_I64, j * 16 * LANES // 2)])
                parts.append(load(builder, builder.gep(first, [entry]), _VECTOR, 4))
            while len(parts) > 1:
                parts = [builder.fadd(a, b) for a, b in zip(parts[::2], parts[1::2], strict=True)]
            place = builder.gep(target, [builder.mul(loop.index, ir.Constant(_I64, LANES))])
            total = builder.fadd(load(builder, place, _VECTOR, 4), parts[0])
            store(builder, total, place, 4)
        return context.get_dummy_value()

    index = types.int64
    return types.none(_BYTES, index, index, _FLOATS, _FLOATS, index), code


@nested
def table_room(count):  # type: ignore[no-untyped-def]
    """Return room for blocks of tables that begins with a cache line."""
    room = empty(count * TABLES * ENTRIES + 16, np.float32)
    start = (-room.ctypes.data % 64) // 4
    return room[start : start + count * TABLES * ENTRIES]
