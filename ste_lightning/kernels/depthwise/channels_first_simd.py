"""Vector instructions for images stored channel by channel, whose pixels are the lanes.

A code is a word of 16 bits. Where bytes hold codes and weights, a word holds the codes under two
taps, and one instruction multiplies them with two weights and adds the products.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from ste_lightning.kernels.jit.compiling import emitted
from ste_lightning.kernels.jit.llvm import load, pointer_to, splat, store
from ste_lightning.kernels.ukernels.int8 import multiply_bytes

__all__ = [
    *("LANES", "RUN", "codes_16", "fill_16", "finish_16", "join_16", "run_of_pairs"),
    *("run_of_taps", "shifted_16"),
]

LANES = 16
RUN = 64  # outputs that one pass over the taps sums
_I16, _I32, _I64 = (ir.IntType(bits) for bits in (16, 32, 64))
_FLOATS = ir.VectorType(ir.FloatType(), LANES)
_WORDS, _SUMS = ir.VectorType(_I16, LANES), ir.VectorType(_I32, LANES)
_BYTES = ir.VectorType(ir.IntType(8), 2 * LANES)


def _codes(shifted: bool) -> Any:
    """Return what writes 16 words: ``off`` where factor x < 0, else ``on``; or ``on`` times a code.

    If ``shifted`` it compares factor x + offset.
    """

    def codes(
        typing: Any, x: Any, at: Any, factor: Any, offset: Any, on: Any, off: Any, out: Any, to: Any
    ) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            x_, at_, factor_, offset_, on_, off_, out_, to_ = args
            source = pointer_to(context, builder, signature.args[0], x_, at_)
            if signature.args[0].dtype == types.float32:
                value = load(builder, source, _FLOATS)
                value = builder.fmul(value, splat(builder, factor_, LANES))
                if shifted:
                    value = builder.fadd(value, splat(builder, offset_, LANES))
                below = builder.fcmp_ordered("<", value, ir.Constant(_FLOATS, None))
                off_, on_ = splat(builder, off_, LANES), splat(builder, on_, LANES)
                words = builder.select(below, off_, on_)
            else:
                codes = load(builder, source, ir.VectorType(ir.IntType(8), LANES))
                words = builder.mul(builder.zext(codes, _WORDS), splat(builder, on_, LANES))
            store(builder, words, pointer_to(context, builder, signature.args[6], out_, to_))
            return context.get_dummy_value()

        index, number, word = types.int64, types.float32, types.int16
        words = types.Array(word, 1, "C")
        return types.none(x, index, number, number, word, word, words, index), code

    return emitted(codes)


codes_16, shifted_16 = _codes(False), _codes(True)


@emitted
def join_16(typing: Any, plane: Any, at: Any, apart: Any, out: Any) -> Any:
    """Write 16 words: a code, and in the upper byte the one ``apart`` words later."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source = pointer_to(context, builder, signature.args[0], args[0], args[1])
        first = load(builder, source, _WORDS)
        second = load(builder, builder.gep(source, [args[2]]), _WORDS)
        joined = builder.or_(first, builder.shl(second, ir.Constant(_WORDS, [8] * LANES)))
        store(builder, joined, pointer_to(context, builder, signature.args[3], args[3], args[1]))
        return context.get_dummy_value()

    words = types.Array(types.int16, 1, "C")
    return types.none(words, types.int64, types.int64, words), code


@emitted
def fill_16(typing: Any, out: Any, to: Any, word: Any) -> Any:
    """Write a word 16 times."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        words = splat(builder, args[2], LANES)
        store(builder, words, pointer_to(context, builder, signature.args[0], args[0], args[1]))
        return context.get_dummy_value()

    return types.none(types.Array(types.int16, 1, "C"), types.int64, types.int16), code


def _run(paired: bool) -> Any:
    """Return what writes sums[to + i] = start + sum_t weights[first + t] plane[at + places[t] + i].

    That is for i below 64; sums have 16 or 32 bits. If ``paired``, a word of the plane and one of
    the weights hold two bytes each, and their products are added.
    """

    def run(
        typing: Any, plane: Any, at: Any, places: Any, weights: Any, first: Any, start: Any,
        sums: Any, to: Any,
    ) -> Any:  # fmt: skip
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            plane_, at_, places_, weights_, first_, start_, sums_, to_ = args
            kinds = signature.args
            kind = _WORDS if kinds[6].dtype == types.int16 else _SUMS
            begin = builder.trunc(start_, _I16) if kind is _WORDS else start_
            begin = splat(builder, begin, LANES)
            cells = [
                cgutils.alloca_once_value(builder, ir.Constant(kind, None))  # type: ignore[no-untyped-call]
                for _ in range(RUN // LANES)
            ]
            for cell in cells:
                builder.store(begin, cell)
            source = pointer_to(context, builder, kinds[0], plane_, at_)
            places = context.make_array(kinds[2])(context, builder, places_)
            taps = cgutils.unpack_tuple(builder, places.shape, 1)[0]  # type: ignore[no-untyped-call]
            with cgutils.for_range(builder, taps) as loop:
                place = builder.gep(source, [builder.load(builder.gep(places.data, [loop.index]))])
                at_weight = builder.add(first_, loop.index)
                weight = builder.load(pointer_to(context, builder, kinds[3], weights_, at_weight))
                weight = splat(builder, weight, LANES)
                for i, cell in enumerate(cells):
                    there = builder.gep(place, [ir.Constant(_I64, i * LANES)])
                    words = load(builder, there, _WORDS)
                    if paired:
                        pairs = (builder.bitcast(part, _BYTES) for part in (words, weight))
                        product = multiply_bytes(builder, *pairs)
                        product = builder.sext(product, kind) if kind is _SUMS else product
                    elif kind is _SUMS:
                        wide = (builder.sext(part, _SUMS) for part in (words, weight))
                        product = builder.mul(*wide)
                    else:
                        product = builder.mul(words, weight)
                    builder.store(builder.add(builder.load(cell), product), cell)
            for i, cell in enumerate(cells):
                there = builder.add(to_, ir.Constant(_I64, i * LANES))
                place = pointer_to(context, builder, kinds[6], sums_, there)
                store(builder, builder.load(cell), place)
            return context.get_dummy_value()

        index = types.int64
        words, places_type = types.Array(types.int16, 1, "C"), types.Array(index, 1, "C")
        given = (words, index, places_type, words, index, types.int32, sums, index)
        return types.none(*given), code

    return emitted(run)


run_of_taps, run_of_pairs = _run(False), _run(True)


@emitted
def finish_16(typing: Any, sums: Any, at: Any, scale: Any, shift: Any, out: Any, to: Any) -> Any:
    """Write 16 results ``sum * scale + shift``, rounded twice."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        sums_, at_, scale_, shift_, out_, to_ = args
        kinds = signature.args
        kind = _WORDS if kinds[0].dtype == types.int16 else _SUMS
        found = load(builder, pointer_to(context, builder, kinds[0], sums_, at_), kind)
        if kind is _WORDS:
            found = builder.sext(found, _SUMS)
        value = builder.fmul(builder.sitofp(found, _FLOATS), splat(builder, scale_, LANES))
        value = builder.fadd(value, splat(builder, shift_, LANES))
        store(builder, value, pointer_to(context, builder, kinds[4], out_, to_))
        return context.get_dummy_value()

    index, number = types.int64, types.float32
    floats = types.Array(number, 1, "C")
    return types.none(sums, index, number, number, floats, index), code
