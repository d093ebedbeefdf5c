"""From counts to results: 32 channels of one row, as vector instructions.

Counts X, of 16 or 32 bits, become floats ``((slope X + from_row + columns) / 2 + extra) scale +
shift``, without a fused multiply-add, so that the results have the rounding of two torch
operators; or, where ``out`` holds bytes, bits 1[slope X + from_row >= extra]; or, where it holds
int8, codes (:mod:`.requantize`), with their table in the place of ``columns``.

Args (in compiled code): the counts, read from ``at``; ``slope`` and ``from_row`` int32;
``columns`` int32, ``scale`` and ``shift`` float32, read from ``column``; ``extra``, read from
``extra_at``: float32, or int32 for bits; ``out`` and the first result's ``place`` in it: float32,
or uint8 and a number of bits. Counts and, for bits, ``extra`` must be readable in blocks of 32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import overload

from ste_lightning.kernels.epilogue.requantize import codes_32
from ste_lightning.kernels.jit.compiling import WITHOUT_COUNTING, emitted, inlined
from ste_lightning.kernels.jit.llvm import load, pointer_to, splat, store
from ste_lightning.kernels.jit.simd import store_32

__all__ = ["finish_row", "finish_sums", "finish_tile"]

_LANES = 32
_WORD, _REAL, _INDEX = ir.IntType(32), ir.FloatType(), types.int64
_WORDS, _REALS = ir.VectorType(_WORD, _LANES), ir.VectorType(_REAL, _LANES)
_INTEGERS, _FLOATS = types.Array(types.int32, 1, "C"), types.Array(types.float32, 1, "C")


class _Arguments:
    """A function's arguments as vectors."""

    def __init__(self, context: Any, builder: Any, signature: Any, args: Any) -> None:
        self.context, self.builder, self.kinds, self.args = context, builder, signature.args, args

    def pointer(self, array: int, start: int, element: Any) -> Any:
        """Return a pointer to 32 elements of one argument, from where another one says."""
        found = self.context.make_array(self.kinds[array])
        data = found(self.context, self.builder, self.args[array]).data
        place = self.builder.gep(data, [self.args[start]])
        return self.builder.bitcast(place, ir.VectorType(element, _LANES).as_pointer())

    def load(self, array: int, start: int, element: Any) -> Any:
        """Return 32 elements."""
        value = self.builder.load(self.pointer(array, start, element))
        value.align = 2
        return value

    def counts(self) -> Any:
        """Return 32 counts, the first argument, from where the second one says."""
        bits = self.kinds[0].dtype.bitwidth
        counts = self.load(0, 1, ir.IntType(bits))
        return self.builder.zext(counts, _WORDS) if bits < 32 else counts


@emitted
def _floats_32(
    typing: Any, total: Any, at: Any, slope: Any, from_row: Any, columns: Any, scale: Any,
    shift: Any, column: Any, extra: Any, extra_at: Any, out: Any, place: Any,
) -> Any:  # fmt: skip
    """Write 32 floats."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        given = _Arguments(context, builder, signature, args)
        constant = builder.add(given.load(4, 7, _WORD), splat(builder, args[3], _LANES))
        doubled = builder.add(
            builder.mul(given.counts(), splat(builder, args[2], _LANES)), constant
        )
        value = builder.fmul(builder.sitofp(doubled, _REALS), ir.Constant(_REALS, [0.5] * _LANES))
        value = builder.fadd(value, given.load(8, 9, _REAL))
        value = builder.fmul(value, given.load(5, 7, _REAL))
        value = builder.fadd(value, given.load(6, 7, _REAL))
        builder.store(value, given.pointer(10, 11, _REAL)).align = 4
        return context.get_dummy_value()

    return types.none(
        *(total, _INDEX, types.int32, types.int32, _INTEGERS, _FLOATS, _FLOATS, _INDEX),
        *(_FLOATS, _INDEX, _FLOATS, _INDEX),
    ), code


@emitted
def _floats_of_rows(
    typing: Any, total: Any, at: Any, step: Any, slope: Any, columns: Any, scale: Any, shift: Any,
    column: Any, extra: Any, border: Any, position: Any, positions: Any, outputs: Any, out: Any,
    place: Any, pitch: Any, count: Any,
) -> Any:  # fmt: skip
    """Write 32 floats of each of ``count`` rows, whose constants stay in registers.

    Counts of a row are ``step`` elements after those of the one before, results ``pitch``. The
    first row is that of ``position``; ``extra`` of a row begins at ``border[position] outputs +
    column``.
    """

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        given = _Arguments(context, builder, signature, args)
        constant, factor, offset = (
            given.load(n, 7, kind) for n, kind in ((4, _WORD), (5, _REAL), (6, _REAL))
        )
        slopes, half = splat(builder, args[3], _LANES), ir.Constant(_REALS, [0.5] * _LANES)
        kinds, index = signature.args, ir.IntType(64)
        bits = kinds[0].dtype.bitwidth
        where = cgutils.alloca_once_value(builder, args[10])  # type: ignore[no-untyped-call]
        builder.store(args[10], where)
        with cgutils.for_range(builder, args[16]) as loop:
            first = builder.add(args[1], builder.mul(loop.index, args[2]))
            counts = load(
                builder,
                pointer_to(context, builder, kinds[0], args[0], first),
                ir.VectorType(ir.IntType(bits), _LANES),
                2,
            )
            counts = builder.zext(counts, _WORDS) if bits < 32 else counts
            doubled = builder.add(builder.mul(counts, slopes), constant)
            value = builder.fmul(builder.sitofp(doubled, _REALS), half)
            here = builder.load(where)
            side = builder.load(pointer_to(context, builder, kinds[9], args[9], here))
            extra_at = builder.add(builder.mul(side, args[12]), args[7])
            added = pointer_to(context, builder, kinds[8], args[8], extra_at)
            value = builder.fadd(value, load(builder, added, _REALS, 4))
            value = builder.fadd(builder.fmul(value, factor), offset)
            to = builder.add(args[14], builder.mul(loop.index, args[15]))
            store(builder, value, pointer_to(context, builder, kinds[13], args[13], to), 4)
            following = builder.add(here, index(1))
            ended = builder.icmp_signed("==", following, args[11])
            builder.store(builder.select(ended, index(0), following), where)
        return context.get_dummy_value()

    integers = types.Array(types.int64, 1, "C")
    return types.none(
        *(total, _INDEX, _INDEX, types.int32, _INTEGERS, _FLOATS, _FLOATS, _INDEX, _FLOATS),
        *(integers, _INDEX, _INDEX, _INDEX, _FLOATS, _INDEX, _INDEX, _INDEX),
    ), code


def finish_tile(
    sums: Any, at: Any, step: Any, slope: Any, columns: Any, scale: Any, shift: Any, column: Any,
    extra: Any, border: Any, position: Any, positions: Any, outputs: Any, out: Any, place: Any,
    pitch: Any, count: Any,
) -> bool:  # fmt: skip
    """Write 32 floats of each row and return whether that was done: not where ``out`` holds others.

    Args: as of :func:`_floats_of_rows`.
    """
    raise NotImplementedError("finish_tile is for compiled code")


@overload(finish_tile, jit_options=WITHOUT_COUNTING)
def _tile_by_type(  # type: ignore[no-untyped-def]
    sums, at, step, slope, columns, scale, shift, column, extra, border, position, positions,
    outputs, out, place, pitch, count,
):  # fmt: skip
    def floats(  # type: ignore[no-untyped-def]
        sums, at, step, slope, columns, scale, shift, column, extra, border, position, positions,
        outputs, out, place, pitch, count,
    ):  # fmt: skip
        _floats_of_rows(
            *(sums, at, step, slope, columns, scale, shift, column, extra, border, position),
            *(positions, outputs, out, place, pitch, count),
        )
        return True

    def others(  # type: ignore[no-untyped-def]
        sums, at, step, slope, columns, scale, shift, column, extra, border, position, positions,
        outputs, out, place, pitch, count,
    ):  # fmt: skip
        return False

    return others if isinstance(out.dtype, types.Integer) else floats


def _comparison(scaled: bool) -> Any:
    """Return the comparison to 32 bits; without ``scaled``, for slope -1 and no ``from_row``."""

    def reached(
        typing: Any, total: Any, at: Any, slope: Any, from_row: Any, extra: Any, extra_at: Any
    ) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            given = _Arguments(context, builder, signature, args)
            counts, least = given.counts(), given.load(4, 5, _WORD)
            if scaled:
                value = builder.mul(counts, splat(builder, args[2], _LANES))
                value = builder.add(value, splat(builder, args[3], _LANES))
                found = builder.icmp_signed(">=", value, least)
            else:
                found = builder.icmp_signed("<=", counts, builder.neg(least))
            return builder.bitcast(found, _WORD)

        number = types.int32
        return types.uint32(total, _INDEX, number, number, _INTEGERS, _INDEX), code

    return emitted(reached)


_reached, _counted = _comparison(True), _comparison(False)


@inlined
def _put_bits(out, place, word, count):  # type: ignore[no-untyped-def]
    """Write ``count`` <= 32 bits to the bit ``place``, and zeros up to the end of their byte.

    Bits before ``place`` in its byte are kept.
    """
    if count < 32:
        word &= (np.uint32(1) << np.uint32(count)) - np.uint32(1)
    at, by = place >> 3, np.uint64(place & 7)
    if by == 0 and count > 24:
        store_32(out, at, word)
        return
    wide = np.uint64(word) << by
    if by > 0:
        wide |= np.uint64(out[at]) & ((np.uint64(1) << by) - np.uint64(1))
    for i in range((count + np.int64(by) + 7) >> 3):
        out[at + i] = np.uint8((wide >> np.uint64(8 * i)) & np.uint64(255))


def finish_sums(
    sums: Any, at: Any, slope: Any, from_row: Any, columns: Any, scale: Any, shift: Any,
    column: Any, extra: Any, extra_at: Any, out: Any, place: Any, count: Any,
) -> None:  # fmt: skip
    """Write ``count`` results of one row; in compiled code, by the type of ``out``."""
    raise NotImplementedError("finish_sums is for compiled code")


@overload(finish_sums, jit_options=WITHOUT_COUNTING)
def _by_type(  # type: ignore[no-untyped-def]
    sums, at, slope, from_row, columns, scale, shift, column, extra, extra_at, out, place, count
):
    def floats(  # type: ignore[no-untyped-def]
        sums, at, slope, from_row, columns, scale, shift, column, extra, extra_at, out, place, count
    ):
        n = 0
        while n + 32 <= count:
            c, e, p = column + n, extra_at + n, place + n
            _floats_32(sums, at + n, slope, from_row, columns, scale, shift, c, extra, e, out, p)
            n += 32
        while n < count:
            doubled = slope * np.int32(sums[at + n]) + from_row + columns[column + n]
            value = np.float32(0.5) * np.float32(doubled) + extra[extra_at + n]
            out[place + n] = value * scale[column + n] + shift[column + n]
            n += 1

    def bits(  # type: ignore[no-untyped-def]
        sums, at, slope, from_row, columns, scale, shift, column, extra, extra_at, out, place, count
    ):
        for n in range(0, count, 32):
            if slope == -1 and from_row == 0:
                word = _counted(sums, at + n, slope, from_row, extra, extra_at + n)
            else:
                word = _reached(sums, at + n, slope, from_row, extra, extra_at + n)
            _put_bits(out, place + n, word, min(32, count - n))

    def codes(  # type: ignore[no-untyped-def]
        sums, at, slope, from_row, columns, scale, shift, column, extra, extra_at, out, place, count
    ):
        for n in range(0, count, 32):
            c, e, p = column + n, extra_at + n, place + n
            codes_32(sums, at + n, slope, from_row, extra, e, columns, c, out, p, count - n)

    if out.dtype == types.int8:
        return codes
    return bits if isinstance(out.dtype, types.Integer) else floats


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
    if short:
        finish_sums(
            *(s16, at, slope, from_row, columns, scale, shift, column, extra, extra_at),
            *(out, place, count),
        )
    else:
        finish_sums(
            *(total, at, slope, from_row, columns, scale, shift, column, extra, extra_at),
            *(out, place, count),
        )
