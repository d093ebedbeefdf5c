"""From counts to codes of several bits: how many integer thresholds a sum has reached.

Sums y = (slope X + from_row + extra) / 2 are integers. A code is the number of an output's
thresholds t with y >= t, or, where it falls as y grows, their number less that. The table that
says so (:mod:`.threshold_table`) is one array, since a kernel passes it on where others have their
columns. Where the codes are on a line, two operations find them all, whatever the count.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from ste_lightning.kernels.epilogue.threshold_table import HEADER, LINES
from ste_lightning.kernels.jit.compiling import emitted
from ste_lightning.kernels.jit.llvm import load, pointer_to, splat, store

__all__ = ["codes_32"]

_LANES = 32
_BYTE, _WORD, _WIDE = (ir.IntType(bits) for bits in (8, 32, 64))
_WORDS, _BYTES = ir.VectorType(_WORD, _LANES), ir.VectorType(_BYTE, _LANES)
_REALS = ir.VectorType(ir.FloatType(), _LANES)
_INTEGERS = types.Array(types.int32, 1, "C")


def _number(value: int) -> Any:
    return ir.Constant(_WIDE, value)


class _Table:
    """The table of thresholds, and the column of the first of 32 outputs."""

    def __init__(self, builder: Any, first: Any, column: Any) -> None:
        self.b, self.first, self.column = builder, first, column
        self.count, self.kind, self.stride = (
            builder.sext(builder.load(builder.gep(first, [_number(i)])), _WIDE)
            for i in range(HEADER)
        )

    def row(self, number: Any, kind: Any, behind: Any = None) -> Any:
        """Return 32 entries of a row of a vector type, ``behind`` so many int32."""
        b, element = self.b, kind.element
        start = _number(HEADER) if behind is None else b.add(_number(HEADER), behind)
        rows = b.bitcast(b.gep(self.first, [start]), element.as_pointer())
        at = b.add(self.column, b.mul(number, self.stride))
        return load(b, b.gep(rows, [at]), kind, 2)


def _on_lines(table: _Table, doubled: Any) -> Any:
    """Return the codes of 32 doubled sums by lines."""
    b = table.b
    m, n, low, high = (table.row(_number(i), _REALS) for i in range(4))
    values = b.fadd(b.fmul(b.sitofp(doubled, _REALS), m), n)
    values = b.select(b.fcmp_ordered(">", values, low), values, low)
    values = b.select(b.fcmp_ordered("<", values, high), values, high)
    return b.trunc(b.fptosi(values, _WORDS), _BYTES)


def _compared(table: _Table, doubled: Any, bits: int) -> Any:
    """Return the codes of 32 doubled sums by comparing with all thresholds."""
    b, kind = table.b, ir.VectorType(ir.IntType(bits), _LANES)
    sums = b.ashr(doubled, ir.Constant(_WORDS, [1] * _LANES))
    values = b.trunc(sums, kind) if bits < 32 else sums
    cell = cgutils.alloca_once(b, kind)  # type: ignore[no-untyped-call]
    b.store(ir.Constant(kind, None), cell)
    with cgutils.for_range(b, table.count) as loop:
        reached = b.icmp_signed(">=", values, table.row(loop.index, kind))
        b.store(b.sub(b.load(cell), b.sext(reached, kind)), cell)
    behind = b.udiv(b.mul(b.mul(table.count, table.stride), _number(bits // 8)), _number(4))
    flip = b.trunc(table.row(_number(0), _WORDS, behind), _BYTES)
    last = splat(b, b.add(b.trunc(table.count, _BYTE), ir.Constant(_BYTE, 1)), _LANES)
    return b.add(b.xor(b.trunc(b.load(cell), _BYTES), flip), b.and_(flip, last))


@emitted
def codes_32(
    typing: Any, total: Any, at: Any, slope: Any, from_row: Any, extra: Any, extra_at: Any,
    table: Any, column: Any, out: Any, place: Any, valid: Any,
) -> Any:  # fmt: skip
    """Write ``valid`` <= 32 codes to ``out[place:]``.

    Args: the counts, int32 or uint16, read from ``at``; ``extra`` int32, read from ``extra_at``;
    the ``table`` of :func:`table_of`, whose first output is ``column``; ``out`` int8.
    """

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        total_, at_, slope_, from_row_, extra_, extra_at_, table_, column_ = args[:8]
        out_, place_, valid_ = args[8:]
        kinds, b = signature.args, builder

        def element(position: int, array: Any, start: Any) -> Any:
            return pointer_to(context, b, kinds[position], array, start)

        size = kinds[0].dtype.bitwidth
        counts = load(b, element(0, total_, at_), ir.VectorType(ir.IntType(size), _LANES), 2)
        sums = b.zext(counts, _WORDS) if size < 32 else counts
        sums = b.add(b.mul(sums, splat(b, slope_, _LANES)), splat(b, from_row_, _LANES))
        sums = b.add(sums, load(b, element(4, extra_, extra_at_), _WORDS, 4))
        table = _Table(b, element(6, table_, _number(0)), column_)
        cell = cgutils.alloca_once(b, _BYTES)  # type: ignore[no-untyped-call]
        with b.if_else(b.icmp_signed("==", table.kind, _number(LINES))) as (lines, rest):
            with lines:
                b.store(_on_lines(table, sums), cell)
            with rest, b.if_else(b.icmp_signed("==", table.kind, _number(16))) as (narrow, wide):
                with narrow:
                    b.store(_compared(table, sums, 16), cell)
                with wide:
                    b.store(_compared(table, sums, 32), cell)
        found = b.load(cell)
        target = element(8, out_, place_)
        whole = b.icmp_signed(">=", valid_, _number(_LANES))
        with b.if_else(whole) as (then, otherwise):
            with then:
                store(b, found, target)
            with otherwise:
                b.store(found, cell)
                source = b.bitcast(cell, _BYTE.as_pointer())
                with cgutils.for_range(b, valid_) as loop:
                    one = b.load(b.gep(source, [loop.index]))
                    b.store(one, b.gep(target, [loop.index]))
        return context.get_dummy_value()

    index, number = types.int64, types.int32
    return types.none(
        *(total, index, number, number, _INTEGERS, index, _INTEGERS, index),
        *(types.Array(types.int8, 1, "C"), index, index),
    ), code
