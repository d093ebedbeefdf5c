"""The micro-kernel of floats with tile registers (AMX): 32 rows x 32 outputs x 32 terms at once.

A float32 is the sum of three bfloat16 numbers of eight bits each, cut off, not rounded:

    x = x_0 + x_1 + x_2,   x_0 = cut(x),   x_1 = cut(x - x_0),   x_2 = x - x_0 - x_1.

TDPBF16PS sums products of such parts in float32, so that x y = sum of x_i y_j with i + j <= 2 to
about 2^-23, as exact as float32 itself, at a multiple of its speed. Integers up to 256 are their
own first part. Numbers below 2^-110 lose their later parts, which would be denormal.

A tile is 16 lines of 64 bytes. Of a left operand (rows x terms) a line is a row, 32 terms long; of
a right operand (terms x outputs) it is two terms of 16 outputs, side by side. Both are the same 16
x 16 words of two terms, transposed.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.core import cgutils

from ste_lightning.kernels.jit.compiling import emitted
from ste_lightning.kernels.jit.llvm import load, pointer_to, splat, store
from ste_lightning.kernels.jit.simd_rounding import ROUND
from ste_lightning.kernels.ukernels.amx import call_tiles, register

__all__ = [
    "add_float_tiles",
    "cut_columns",
    "cut_rows",
    "lay_tile",
    "load_sums",
    "store_sums",
    "turn_tile",
]

PARTS = 3
_I16, _I32, _I64 = (ir.IntType(bits) for bits in (16, 32, 64))
_LINE, _TILE = 64, 1024  # bytes
_NEAR = 2.0**-10  # of an integer: what dividing by a step may leave
_FLOATS, _BYTES = types.Array(types.float32, 1, "C"), types.Array(types.uint8, 1, "C")
_INDEX = types.int64
_SUMS = ((0, 1), (2, 3))  # registers of sums: of each half of the rows, of the outputs
_LEFT, _RIGHT = (4, 5), (6, 7)


def _index(value: int) -> Any:
    return ir.Constant(_I64, value)


def _bytes_at(context: Any, b: Any, kind: Any, array: Any, start: Any) -> Any:
    return b.bitcast(pointer_to(context, b, kind, array, start), ir.IntType(8).as_pointer())


class _Operand(NamedTuple):
    """Where an operand's tiles are: of each half, and what is between lines, blocks and parts."""

    halves: tuple[Any, Any]
    pitch: Any
    block: Any
    part: Any
    parts: int

    def load(self, b: Any, registers: tuple[int, int], block: Any, part: int) -> None:
        """Read both halves' tiles."""
        at = b.add(b.mul(block, self.block), b.mul(_index(part), self.part))
        for half, number in zip(self.halves, registers, strict=True):
            call_tiles(b, "tileloadd64", register(number), b.gep(half, [at]), self.pitch)


def _products(b: Any, left: _Operand, right: _Operand, blocks: Any) -> None:
    """Emit the loop over blocks of terms."""
    with cgutils.for_range(b, blocks) as loop:
        for j in reversed(range(right.parts)):  # small products first
            right.load(b, _RIGHT, loop.index, j)
            for i in reversed(range(min(left.parts, PARTS - j))):
                left.load(b, _LEFT, loop.index, i)
                for m, sums in enumerate(_SUMS):
                    for n, number in enumerate(sums):
                        operands = (number, _LEFT[m], _RIGHT[n])
                        call_tiles(b, "tdpbf16ps", *(register(r) for r in operands))


@emitted
def add_float_tiles(
    typing: Any,
    left: Any,
    of_left: Any,
    lefts: Any,
    right: Any,
    of_right: Any,
    rights: Any,
    blocks: Any,
) -> Any:
    """Add products of two groups of 16 rows and two of 16 outputs to the sums.

    ``of_left`` and ``of_right`` are (start, half, pitch, block, part): where the first tile begins,
    and the bytes between groups, lines of a tile, blocks of 32 terms and parts. ``lefts`` and
    ``rights``, one or three, are the numbers of parts.
    """
    place = types.UniTuple(types.int64, 5)  # type: ignore[no-untyped-call]

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        left_, of_left_, lefts_, right_, of_right_, rights_, blocks_ = args
        kinds, b = signature.args, builder

        def operand(kind: Any, array: Any, numbers: Any, parts: int) -> _Operand:
            start, half, pitch, block, part = (b.extract_value(numbers, k) for k in range(5))
            first = _bytes_at(context, b, kind, array, start)
            return _Operand((first, b.gep(first, [half])), pitch, block, part, parts)

        for m in (1, PARTS):
            for n in (1, PARTS):
                chosen = b.and_(
                    b.icmp_signed("==", lefts_, _index(m)), b.icmp_signed("==", rights_, _index(n))
                )
                with b.if_then(chosen):
                    operands = (
                        operand(kinds[0], left_, of_left_, m),
                        operand(kinds[3], right_, of_right_, n),
                    )
                    _products(b, *operands, blocks_)
        return context.get_dummy_value()

    return types.none(_BYTES, place, _INDEX, _BYTES, place, _INDEX, _INDEX), code


def _over_sums(name: str) -> Any:
    def move(typing: Any, out: Any, at: Any, width: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            out_, at_, width_ = args
            place = _bytes_at(context, builder, signature.args[0], out_, at_)
            pitch = builder.mul(width_, _index(4))
            for m, sums in enumerate(_SUMS):
                for n, number in enumerate(sums):
                    at = builder.add(builder.mul(pitch, _index(16 * m)), _index(_LINE * n))
                    to = builder.gep(place, [at])
                    call_tiles(builder, name, register(number), to, pitch)
            return context.get_dummy_value()

        return types.none(_FLOATS, _INDEX, _INDEX), code

    return move


# of 32 x 32 floats of an array whose lines are ``width`` floats long, from ``at`` on
load_sums = emitted(_over_sums("tileloadd64"))
store_sums = emitted(_over_sums("tilestored64"))


def _words(lanes: int, value: int) -> Any:
    return ir.Constant(ir.VectorType(_I32, lanes), [value] * lanes)


def _floats(lanes: int, value: float) -> Any:
    return ir.Constant(ir.VectorType(ir.FloatType(), lanes), [value] * lanes)


def _cut(b: Any, x: Any, lanes: int) -> tuple[Any, Any]:
    """Return the bits of the first part of floats, in their upper halves, and the rest."""
    bits = b.and_(b.bitcast(x, ir.VectorType(_I32, lanes)), _words(lanes, -65536))
    first = b.bitcast(bits, x.type)
    equal = b.fcmp_ordered("==", x, first)  # so for infinity too
    return bits, b.select(equal, _floats(lanes, 0.0), b.fsub(x, first))


def _integers(b: Any, x: Any, ends: tuple[Any, Any], lanes: int, strange: Any) -> Any:
    """Return the bits of round(clip(x)); remember NaN and, without ends, what is no integer.

    What needs more than the eight bits of a part is remembered, too.
    """
    low, high = (splat(b, end, lanes) for end in ends)
    rounder, words = _floats(lanes, ROUND), ir.VectorType(_I32, lanes)
    clipped = b.select(b.fcmp_ordered("<", x, low), low, x)
    clipped = b.select(b.fcmp_ordered(">", clipped, high), high, clipped)
    whole = b.fsub(b.fadd(clipped, rounder), rounder)
    rest = b.bitcast(b.and_(b.bitcast(b.fsub(x, whole), words), _words(lanes, 0x7FFFFFFF)), x.type)
    infinite = ir.Constant(ir.FloatType(), float("inf"))
    unbounded = b.fcmp_ordered("==", ends[1], infinite)
    most = b.select(unbounded, ir.Constant(ir.FloatType(), _NEAR), infinite)
    bits = b.bitcast(whole, words)
    short = b.icmp_unsigned("==", b.and_(bits, _words(lanes, 65535)), _words(lanes, 0))
    fine = b.and_(short, b.fcmp_ordered("<=", rest, splat(b, most, lanes)))
    b.store(b.or_(b.load(strange), b.not_(fine)), strange)
    return bits


def _flags(b: Any, lanes: int) -> Any:
    kind = ir.VectorType(ir.IntType(1), lanes)
    place = cgutils.alloca_once(b, kind)  # type: ignore[no-untyped-call]
    b.store(ir.Constant(kind, None), place)
    return place


def _any(b: Any, flags: Any, lanes: int) -> Any:
    found = b.bitcast(b.load(flags), ir.IntType(lanes))
    return b.zext(b.icmp_unsigned("!=", found, ir.Constant(found.type, 0)), _I64)


def _cutter(lanes: int, write: Any) -> Any:
    """Return an intrinsic that cuts 16 lines; ``write`` makes a line of a tile of two or one."""
    per_line = 32 // lanes  # lines of the source in one of a tile

    def cut(
        typing: Any,
        x: Any,
        at: Any,
        stride: Any,
        lines: Any,
        line: Any,
        step: Any,
        across: Any,
        lane: Any,
        low: Any,
        high: Any,
        parts: Any,
        out: Any,
        to: Any,
    ) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            x_, at_, stride_, lines_, line_, step_, across_, lane_, *ends, parts_, out_, to_ = args
            b, kinds = builder, signature.args
            kind = ir.VectorType(ir.FloatType(), lanes)
            source = pointer_to(context, b, kinds[0], x_, at_)
            factors = pointer_to(context, b, kinds[3], lines_, line_)
            factor = load(b, pointer_to(context, b, kinds[6], across_, lane_), kind, 4)
            target = _bytes_at(context, b, kinds[11], out_, to_)
            strange = _flags(b, lanes)

            def values(index: Any) -> list[tuple[Any, Any]]:
                found = []
                for k in range(per_line):
                    number = b.add(b.mul(index, _index(per_line)), _index(k))
                    value = load(b, b.gep(source, [b.mul(number, stride_)]), kind, 4)
                    own = b.load(b.gep(factors, [b.mul(number, step_)]))
                    found.append((value, splat(b, own, lanes)))
                return found

            with b.if_else(b.icmp_signed("==", parts_, _index(1))) as (one, three):
                with one, cgutils.for_range(b, _index(16)) as loop:
                    given = (b.fdiv(value, own) for value, own in values(loop.index))
                    bits = [_integers(b, v, (ends[0], ends[1]), lanes, strange) for v in given]
                    store(b, write(b, bits), b.gep(target, [b.mul(loop.index, _index(_LINE))]))
                with three, cgutils.for_range(b, _index(16)) as loop:
                    place = b.gep(target, [b.mul(loop.index, _index(_LINE))])
                    pairs = values(loop.index)
                    rests = [b.fmul(b.fmul(value, own), factor) for value, own in pairs]
                    for part in range(PARTS):
                        pairs = [_cut(b, rest, lanes) for rest in rests]
                        rests = [rest for _, rest in pairs]
                        line = write(b, [bits for bits, _ in pairs])
                        store(b, line, b.gep(place, [_index(part * _TILE)]))
            return _any(b, strange, lanes)

        array, index = _FLOATS, _INDEX
        places, number = (array, index, index), types.float32
        arguments = *places, *places, array, index, number, number, index, _BYTES, index
        return types.int64(*arguments), code

    return emitted(cut)


def _one_row(b: Any, bits: list[Any]) -> Any:
    """Return the upper halves of 32 words."""
    return b.trunc(b.lshr(bits[0], _words(32, 16)), ir.VectorType(_I16, 32))


def _two_terms(b: Any, bits: list[Any]) -> Any:
    """Return the upper halves of two lines, side by side in each word."""
    return b.or_(b.lshr(bits[0], _words(16, 16)), bits[1])


# Write a tile, for each part, of 16 lines of 32 floats (of 32 lines of 16, which lie in pairs).
#
# Line i begins at x[at + i * stride] and has a factor lines[line + i * step]. Of three parts a
# float is multiplied by it and by across[lane + j]; one part is round(clip(float / factor)).
# Returned is whether any quotient is NaN or, where high is infinite, no integer of eight bits.
cut_rows, cut_columns = _cutter(32, _one_row), _cutter(16, _two_terms)


@emitted
def lay_tile(typing: Any, tiles: Any, at: Any, out: Any, to: Any, pitch: Any) -> Any:
    """Copy the lines of the tile at ``tiles[at]`` to ``out[to]``, ``pitch`` bytes apart."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        b, kinds = builder, signature.args
        source = _bytes_at(context, b, kinds[0], args[0], args[1])
        target = _bytes_at(context, b, kinds[2], args[2], args[3])
        for i in range(16):
            line = load(b, b.gep(source, [_index(_LINE * i)]), ir.VectorType(_I32, 16))
            store(b, line, b.gep(target, [b.mul(args[4], _index(i))]))
        return context.get_dummy_value()

    return types.none(_BYTES, _INDEX, _BYTES, _INDEX, _INDEX), code


@emitted
def turn_tile(typing: Any, tiles: Any, at: Any) -> Any:
    """Transpose the 16 x 16 words of the tile at ``tiles[at]``."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        b = builder
        place = _bytes_at(context, b, signature.args[0], args[0], args[1])
        words = ir.VectorType(_I32, 16)
        places = [b.gep(place, [_index(_LINE * i)]) for i in range(16)]
        lines = [load(b, p, words) for p in places]
        for d in (1, 2, 4, 8):  # exchange line bit d with lane bit d
            upper = ir.Constant(words, [16 + k - d if k & d else k for k in range(16)])
            lower = ir.Constant(words, [16 + k if k & d else k + d for k in range(16)])
            for i in range(16):
                if i & d == 0:
                    pair = lines[i], lines[i + d]
                    lines[i] = b.shuffle_vector(*pair, upper)
                    lines[i + d] = b.shuffle_vector(*pair, lower)
        for line, p in zip(lines, places, strict=True):
            store(b, line, p)
        return context.get_dummy_value()

    return types.none(_BYTES, _INDEX), code
