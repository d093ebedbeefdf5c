"""From counts to codes of several bits: how many integer thresholds a sum has reached.

Sums y = (slope X + from_row + extra) / 2 are integers. A code is the number of an output's
thresholds t with y >= t, or, where it falls as y grows, their number less that. The table of
thresholds is one array of int32, since a kernel passes it on where others have their columns:

    count of thresholds, their number of bits, places of a row
    ``count`` rows: a threshold of every output, of 32 or 16 bits
    one row of int32: -1 for outputs whose codes fall, else 0

Rows are read in blocks of 32 outputs, so they end with 32 places nobody uses.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numpy.typing import NDArray

from ste_lightning.kernels.compiling import emitted
from ste_lightning.kernels.llvm import load, pointer_to, splat, store

__all__ = ["codes_32", "table_of"]

_HEADER = 3
_LANES = 32
_BYTE, _HALF, _WORD, _WIDE = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_WORDS, _BYTES = ir.VectorType(_WORD, _LANES), ir.VectorType(_BYTE, _LANES)
_INTEGERS = types.Array(types.int32, 1, "C")


def table_of(
    least: NDArray[np.int64], falling: NDArray[np.bool_], largest: int
) -> NDArray[np.int32]:
    """Return the table of thresholds.

    Args:
        least: (count, outputs): a sum has reached a threshold if it is at least that.
        falling: (outputs,): whether codes fall as sums grow.
        largest: a bound on the sums' size; below 2^15, 16 bits hold them.
    """
    count, outputs = least.shape
    bits = 16 if largest < np.iinfo(np.int16).max else 32
    kind: Any = np.int16 if bits == 16 else np.int32
    stride = -(-(outputs + _LANES) // 2) * 2
    rows = np.zeros((count, stride), kind)
    rows[:, :outputs] = np.clip(least, np.iinfo(kind).min, np.iinfo(kind).max)
    flip = np.zeros(stride, np.int32)
    flip[:outputs] = -falling.astype(np.int32)
    header = np.array([count, bits, stride], np.int32)
    return np.concatenate([header, rows.ravel().view(np.int32), flip])


def _number(value: int) -> Any:
    return ir.Constant(_WIDE, value)


def _compared(b: Any, sums: Any, bits: int, table: Any, column: Any, stride: Any, count: Any) -> Any:
    """Return how many thresholds 32 sums have reached, as bytes."""
    element = ir.IntType(bits)
    kind = ir.VectorType(element, _LANES)
    values = b.trunc(sums, kind) if bits < 32 else sums
    rows = b.bitcast(b.gep(table, [_number(_HEADER)]), element.as_pointer())
    cell = cgutils.alloca_once(b, kind)  # type: ignore[no-untyped-call]
    b.store(ir.Constant(kind, None), cell)
    with cgutils.for_range(b, count) as loop:
        at = b.add(column, b.mul(loop.index, stride))
        least = load(b, b.gep(rows, [at]), kind, 2)
        reached = b.sext(b.icmp_signed(">=", values, least), kind)
        b.store(b.sub(b.load(cell), reached), cell)
    return b.trunc(b.load(cell), _BYTES)


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
        sums = b.ashr(sums, ir.Constant(_WORDS, [1] * _LANES))
        first = element(6, table_, _number(0))
        count, bits, stride = (
            b.sext(b.load(b.gep(first, [_number(i)])), _WIDE) for i in range(_HEADER)
        )
        cell = cgutils.alloca_once(b, _BYTES)  # type: ignore[no-untyped-call]
        narrow = b.icmp_signed("==", bits, _number(16))
        with b.if_else(narrow) as (then, otherwise):
            for branch, width in ((then, 16), (otherwise, 32)):
                with branch:
                    b.store(_compared(b, sums, width, first, column_, stride, count), cell)
        used = b.mul(b.mul(count, stride), b.select(narrow, _number(2), _number(4)))
        start = b.add(b.udiv(used, _number(4)), b.add(column_, _number(_HEADER)))
        flip = b.trunc(load(b, b.gep(first, [start]), _WORDS, 4), _BYTES)
        last = splat(b, b.add(b.trunc(count, _BYTE), ir.Constant(_BYTE, 1)), _LANES)
        found = b.add(b.xor(b.load(cell), flip), b.and_(flip, last))
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
