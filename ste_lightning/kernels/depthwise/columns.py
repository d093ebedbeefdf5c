"""Depthwise convolutions of 3x3 with the channels last, as compiled code: a column in a word.

A word of 32 bits holds a channel's codes under one column of the kernel, and VPDPBUSD multiplies
them with the column's weights. A column is put together once for all outputs that it is under, of
a strip of lines that are copied with their padding. Slope and columns of :mod:`.integer_codes` are
folded into weights and starts: a sum is the result.
"""

from __future__ import annotations

from typing import Any

import numpy as np  # numba reads the types of arrays from it
from llvmlite import ir
from numba import types
from numba.core import cgutils

from ste_lightning.kernels.depthwise.channels_last import binary_pixels
from ste_lightning.kernels.jit.arrays import empty
from ste_lightning.kernels.jit.c_functions import (
    BYTES,
    FLAG,
    FLOATS,
    INTEGERS,
    SIZE,
    carray,
    on_demand,
)
from ste_lightning.kernels.jit.compiling import emitted, inlined, nested
from ste_lightning.kernels.jit.llvm import load, pointer_to, splat, store
from ste_lightning.kernels.jit.simd import copy, fill
from ste_lightning.kernels.layout.read_record import floats_of, opened, words_of
from ste_lightning.kernels.ukernels.vnni import dot

__all__ = ["LANES", "RECORD", "convolve_codes", "convolve_floats"]

LANES = 16  # channels of a vector
_NAMES = (
    *("channels", "height", "width", "top", "left", "pad", "lines", "columns", "down", "right"),
    "shifted",
)
_PLACES = {name: i for i, name in enumerate(_NAMES)}
RECORD = len(_NAMES) + 8  # numbers, then address and length of weights, starts, scale, shift
_CHANNELS, _HEIGHT, _WIDTH, _TOP, _LEFT = (_PLACES[name] for name in _NAMES[:5])
_PAD, _LINES, _COLUMNS, _DOWN, _RIGHT, _SHIFTED = (_PLACES[name] for name in _NAMES[5:])
_WEIGHTS, _STARTS, _SCALE, _SHIFT = range(len(_NAMES), RECORD, 2)
_STRIP = 1 << 17  # bytes of padded codes, a part of the second cache

_I8, _I32, _I64 = (ir.IntType(bits) for bits in (8, 32, 64))
_BYTES, _WORDS = ir.VectorType(_I8, LANES), ir.VectorType(_I32, LANES)
_REALS = ir.VectorType(ir.FloatType(), LANES)
_ARRAY, _INDEX = types.Array(types.uint8, 1, "C"), types.int64
_INTEGERS, _FLOATS = types.Array(types.int32, 1, "C"), types.Array(types.float32, 1, "C")


def _index(value: int) -> Any:
    return ir.Constant(_I64, value)


def _line(vectors: int, stride: int) -> Any:
    """Return what writes a line of outputs, 16 x ``vectors`` channels of each.

    In compiled code: ``f(codes, at, line, pixel, count, weights, starts, scale, shift, channel,
    out, to, pitch)``: the first column's codes begin at ``codes[at]``, lines and pixels are so many
    bytes apart, ``count`` outputs ``pitch`` floats.
    """

    def micro_kernel(
        typing: Any, codes: Any, at: Any, line: Any, pixel: Any, count: Any, weights: Any,
        starts: Any, scale: Any, shift: Any, channel: Any, out: Any, to: Any, pitch: Any,
    ) -> Any:  # fmt: skip
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            codes_, at_, line_, pixel_, count_, weights_, starts_, *rest = args
            scale_, shift_, channel_, out_, to_, pitch_ = rest
            kinds, b = signature.args, builder

            def vector(position: int, array: Any, start: Any, kind: Any) -> Any:
                return load(b, pointer_to(context, b, kinds[position], array, start), kind, 4)

            def own(position: int, array: Any, kind: Any) -> list[Any]:
                return [
                    vector(position, array, b.add(channel_, _index(LANES * v)), kind)
                    for v in range(vectors)
                ]

            first = pointer_to(context, b, kinds[0], codes_, at_)
            begin = b.mul(channel_, _index(3))
            w = [
                [
                    vector(5, weights_, b.add(begin, _index(LANES * (3 * v + k))), _WORDS)
                    for v in range(vectors)
                ]
                for k in range(3)
            ]
            begins, factors, offsets = (
                own(6, starts_, _WORDS),
                own(7, scale_, _REALS),
                own(8, shift_, _REALS),
            )

            def column(x: Any) -> list[Any]:
                place, found = b.gep(first, [b.mul(x, pixel_)]), []
                for v in range(vectors):
                    total = None
                    for k in range(3):
                        there = b.gep(place, [b.add(b.mul(line_, _index(k)), _index(LANES * v))])
                        part = b.zext(load(b, there, _BYTES), _WORDS)
                        if k > 0:
                            part = b.shl(part, splat(b, ir.Constant(_I32, 8 * k), LANES))
                        total = part if total is None else b.or_(total, part)
                    found.append(total)
                return found

            kept = 3 - stride
            cells = [
                [cgutils.alloca_once(b, _WORDS) for _ in range(vectors)]  # type: ignore[no-untyped-call]
                for _ in range(kept)
            ]
            for k, row in enumerate(cells):
                for cell, value in zip(row, column(_index(k)), strict=True):
                    b.store(value, cell)
            target = pointer_to(context, b, kinds[10], out_, to_)
            with cgutils.for_range(b, count_) as loop:
                x = b.mul(loop.index, _index(stride))
                columns = [[b.load(cell) for cell in row] for row in cells]
                columns += [column(b.add(x, _index(k))) for k in range(kept, 3)]
                place = b.gep(target, [b.mul(loop.index, pitch_)])
                for v in range(vectors):
                    total = begins[v]
                    for k in range(3):
                        total = dot(b, total, columns[k][v], w[k][v])
                    value = b.fmul(b.sitofp(total, _REALS), factors[v])
                    value = b.fadd(value, offsets[v])
                    store(b, value, b.gep(place, [_index(LANES * v)]), 4)
                for k, row in enumerate(cells):
                    for cell, value in zip(row, columns[stride + k], strict=True):
                        b.store(value, cell)
            return context.get_dummy_value()

        index = _INDEX
        return types.none(
            *(_ARRAY, index, index, index, index, _INTEGERS, _INTEGERS, _FLOATS, _FLOATS, index),
            *(_FLOATS, index, index),
        ), code

    return emitted(micro_kernel)


_line_1_wide, _line_1, _line_2_wide, _line_2 = (
    _line(vectors, stride) for stride in (1, 2) for vectors in (2, 1)
)


@emitted
def _shift(typing: Any, room: Any, to: Any, size: Any, by: Any) -> Any:
    """Multiply ``size`` bytes, whole vectors of them, with 2 to the power ``by``."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        room_, to_, size_, by_ = args
        first = pointer_to(context, builder, signature.args[0], room_, to_)
        octets = splat(builder, builder.trunc(by_, _I8), LANES)
        with (
            builder.if_then(builder.icmp_signed(">", by_, _index(0))),
            cgutils.for_range(builder, builder.sdiv(size_, _index(LANES))) as loop,
        ):
            place = builder.gep(first, [builder.mul(loop.index, _index(LANES))])
            store(builder, builder.shl(load(builder, place, _BYTES), octets), place)
        return context.get_dummy_value()

    return types.none(_ARRAY, _INDEX, _INDEX, _INDEX), code


@nested
def _convolve_strip(record, codes, padded, out, to, lines):  # type: ignore[no-untyped-def]
    """Write ``lines`` lines of outputs; ``padded`` bytes are a line of ``codes``."""
    channels, columns = record[_CHANNELS], record[_COLUMNS]
    weights, starts = words_of(record, _WEIGHTS), words_of(record, _STARTS)
    scale, shift = floats_of(record, _SCALE), floats_of(record, _SHIFT)
    for y in range(lines):
        at = y * record[_DOWN] * padded
        place = to + y * columns * channels
        for c in range(0, channels, 2 * LANES):
            where = (codes, at + c, padded, channels, columns, weights, starts, scale, shift, c)
            results = (out, place + c, channels)
            if c + 2 * LANES <= channels:
                if record[_RIGHT] == 1:
                    _line_1_wide(*where, *results)
                else:
                    _line_2_wide(*where, *results)
            elif record[_RIGHT] == 1:
                _line_1(*where, *results)
            else:
                _line_2(*where, *results)


@nested
def _next_strip(record, row, last):  # type: ignore[no-untyped-def]
    """Return (image, first line of outputs, lines of outputs, first line of inputs) of a strip."""
    padded = (record[_WIDTH] + 4) * record[_CHANNELS]
    image, line = row // record[_LINES], row % record[_LINES]
    most = max(4, _STRIP // (padded * record[_DOWN]))
    lines = min(min(most, last - row), record[_LINES] - line)
    return image, line, lines, line * record[_DOWN] - record[_TOP]


@nested
def _padded_bytes(record):  # type: ignore[no-untyped-def]
    """Return the bytes of a line that the outputs read."""
    columns = (record[_COLUMNS] - 1) * record[_RIGHT] + 3
    return max(columns, record[_LEFT] + record[_WIDTH]) * record[_CHANNELS]


@nested
def _padded_strip(record, row, last, room):  # type: ignore[no-untyped-def]
    """Return memory for a strip that holds the padding, ``room`` if it is large enough."""
    lines = (_next_strip(record, row, last)[2] - 1) * record[_DOWN] + 3
    size = lines * _padded_bytes(record)
    if len(room) < size:
        room = empty(size, np.uint8)
    fill(room, 0, size, record[_PAD])
    return room


@inlined
def _lines_of(record, lines, source):  # type: ignore[no-untyped-def]
    """Return the range of a strip's lines of inputs that lie in the image."""
    needed = (lines - 1) * record[_DOWN] + 3
    return max(0, -source), min(needed, record[_HEIGHT] - source)


@on_demand(INTEGERS, BYTES, FLOATS, SIZE, SIZE)
def convolve_codes(record_, codes_, out_, first, last):  # type: ignore[no-untyped-def]
    """Convolve codes with their channels last: lines ``first`` to ``last`` of all images' outputs.

    The record holds: channels, the inputs' height and width, what is padded above and on the left,
    the code that pads, lines and columns of outputs, strides down and to the right, by how many
    bits codes are shifted; and the arrays weights (16 channels, column, channel, byte of a line),
    starts of the sums, scale, shift.
    """
    record, codes, out = carray(record_, (RECORD,)), opened(codes_), opened(out_)
    padded, channels, by = _padded_bytes(record), record[_CHANNELS], record[_SHIFTED]
    size, left = record[_WIDTH] * channels, record[_LEFT] * channels
    room, row = empty(0, np.uint8), first
    while row < last:
        image, line, lines, source = _next_strip(record, row, last)
        room = _padded_strip(record, row, last, room)
        begin, end = _lines_of(record, lines, source)
        for y in range(begin, end):
            at, to = (image * record[_HEIGHT] + source + y) * size, y * padded + left
            copy(codes, at, room, to, size)
            _shift(room, to, size, by)
        to = (image * record[_LINES] + line) * record[_COLUMNS] * channels
        _convolve_strip(record, room, padded, out, to, lines)
        row += lines


@on_demand(INTEGERS, FLOATS, FLOATS, FLOATS, SIZE, FLAG, FLOATS, SIZE, SIZE)
def convolve_floats(record_, x_, factor_, offset_, thresholds, strict, out_, first, last):  # type: ignore[no-untyped-def]
    """As :func:`convolve_codes`, of floats: their signs, or steps if ``strict``.

    There are no ``thresholds``, or one per channel: factor x + offset is compared with zero.
    """
    record, x, out = carray(record_, (RECORD,)), opened(x_), opened(out_)
    factor, offset = carray(factor_, (thresholds,)), carray(offset_, (thresholds,))
    padded, channels, by = _padded_bytes(record), record[_CHANNELS], record[_SHIFTED]
    size, left = record[_WIDTH] * channels, record[_LEFT] * channels
    room, row = empty(0, np.uint8), first
    while row < last:
        image, line, lines, source = _next_strip(record, row, last)
        room = _padded_strip(record, row, last, room)
        begin, end = _lines_of(record, lines, source)
        for y in range(begin, end):
            at, to = (image * record[_HEIGHT] + source + y) * size, y * padded + left
            binary_pixels(x, at, channels, strict != 0, factor, offset, room, to, record[_WIDTH])
            _shift(room, to, size, by)
        to = (image * record[_LINES] + line) * record[_COLUMNS] * channels
        _convolve_strip(record, room, padded, out, to, lines)
        row += lines
