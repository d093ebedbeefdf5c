"""Depthwise convolutions of images stored channel by channel, as compiled code: pixels are lanes.

A channel is copied to an image of 16-bit codes with its padding. There the input under a tap is
the same distance from every output, so that one vector instruction multiplies 16 neighbouring
outputs' inputs with the tap's weight. Vectors run on from line to line, over the padding too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from ste_lightning.kernels.compiling import compiled, emitted
from ste_lightning.kernels.llvm import load, pointer_to, splat, store

__all__ = ["convolve_planes"]

_LANES = 16
_RUN = 64  # outputs that one pass over the taps sums
_BAND = 1024  # sums that stay in the nearest cache
_I16, _I32, _I64 = (ir.IntType(bits) for bits in (16, 32, 64))
_FLOATS = ir.VectorType(ir.FloatType(), _LANES)
_WORDS, _SUMS = ir.VectorType(_I16, _LANES), ir.VectorType(_I32, _LANES)


@emitted
def _codes_16(
    typing: Any, x: Any, at: Any, factor: Any, offset: Any, on: Any, off: Any, out: Any, to: Any
) -> Any:
    """Write 16 words: ``off`` where factor x + offset < 0, else ``on``; or ``on`` times a code."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        x_, at_, factor_, offset_, on_, off_, out_, to_ = args
        source = pointer_to(context, builder, signature.args[0], x_, at_)
        if signature.args[0].dtype == types.float32:
            value = builder.fmul(load(builder, source, _FLOATS), splat(builder, factor_, _LANES))
            value = builder.fadd(value, splat(builder, offset_, _LANES))
            below = builder.fcmp_ordered("<", value, ir.Constant(_FLOATS, None))
            off_, on_ = splat(builder, off_, _LANES), splat(builder, on_, _LANES)
            words = builder.select(below, off_, on_)
        else:
            codes = load(builder, source, ir.VectorType(ir.IntType(8), _LANES))
            words = builder.mul(builder.zext(codes, _WORDS), splat(builder, on_, _LANES))
        store(builder, words, pointer_to(context, builder, signature.args[6], out_, to_))
        return context.get_dummy_value()

    index, number, word = types.int64, types.float32, types.int16
    words = types.Array(word, 1, "C")
    return types.none(x, index, number, number, word, word, words, index), code


@emitted
def _fill_16(typing: Any, out: Any, to: Any, word: Any) -> Any:
    """Write a word 16 times."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        words = splat(builder, args[2], _LANES)
        store(builder, words, pointer_to(context, builder, signature.args[0], args[0], args[1]))
        return context.get_dummy_value()

    return types.none(types.Array(types.int16, 1, "C"), types.int64, types.int16), code


@emitted
def _run_of_taps(
    typing: Any, plane: Any, at: Any, places: Any, weights: Any, first: Any, sums: Any, to: Any
) -> Any:
    """Write sums[to + i] = sum_t weights[first + t] plane[at + places[t] + i] for i below 64.

    They have the type of ``sums``, 16 or 32 bits.
    """

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        plane_, at_, places_, weights_, first_, sums_, to_ = args
        kinds = signature.args
        kind = _WORDS if kinds[5].dtype == types.int16 else _SUMS
        cells = [
            cgutils.alloca_once_value(builder, ir.Constant(kind, None))  # type: ignore[no-untyped-call]
            for _ in range(_RUN // _LANES)
        ]
        for cell in cells:
            builder.store(ir.Constant(kind, None), cell)
        source = pointer_to(context, builder, kinds[0], plane_, at_)
        places = context.make_array(kinds[2])(context, builder, places_)
        taps = cgutils.unpack_tuple(builder, places.shape, 1)[0]  # type: ignore[no-untyped-call]
        with cgutils.for_range(builder, taps) as loop:
            place = builder.gep(source, [builder.load(builder.gep(places.data, [loop.index]))])
            weight = builder.load(
                pointer_to(context, builder, kinds[3], weights_, builder.add(first_, loop.index))
            )
            if kind is _SUMS:
                weight = builder.sext(weight, _I32)
            weight = splat(builder, weight, _LANES)
            for i, cell in enumerate(cells):
                there = builder.gep(place, [ir.Constant(_I64, i * _LANES)])
                words = load(builder, there, _WORDS)
                if kind is _SUMS:
                    words = builder.sext(words, _SUMS)
                builder.store(builder.add(builder.load(cell), builder.mul(words, weight)), cell)
        for i, cell in enumerate(cells):
            there = builder.add(to_, ir.Constant(_I64, i * _LANES))
            store(builder, builder.load(cell), pointer_to(context, builder, kinds[5], sums_, there))
        return context.get_dummy_value()

    index = types.int64
    words, places_type = types.Array(types.int16, 1, "C"), types.Array(index, 1, "C")
    return types.none(words, index, places_type, words, index, sums, index), code


@emitted
def _finish_16(
    typing: Any, sums: Any, at: Any, slope: Any, column: Any, scale: Any, shift: Any, out: Any,
    to: Any,
) -> Any:  # fmt: skip
    """Write 16 results: ``(slope sum + column) / 2 * scale + shift``, rounded twice."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        sums_, at_, slope_, column_, scale_, shift_, out_, to_ = args
        kinds = signature.args
        kind = _WORDS if kinds[0].dtype == types.int16 else _SUMS
        found = load(builder, pointer_to(context, builder, kinds[0], sums_, at_), kind)
        if kind is _WORDS:
            found = builder.sext(found, _SUMS)
        doubled = builder.mul(found, splat(builder, slope_, _LANES))
        doubled = builder.add(doubled, splat(builder, column_, _LANES))
        value = builder.fmul(builder.sitofp(doubled, _FLOATS), ir.Constant(_FLOATS, [0.5] * _LANES))
        value = builder.fmul(value, splat(builder, scale_, _LANES))
        value = builder.fadd(value, splat(builder, shift_, _LANES))
        store(builder, value, pointer_to(context, builder, kinds[6], out_, to_))
        return context.get_dummy_value()

    index, integer, number = types.int64, types.int32, types.float32
    floats = types.Array(number, 1, "C")
    return types.none(sums, index, integer, integer, number, number, floats, index), code


@compiled
def convolve_planes(  # type: ignore[no-untyped-def]
    x,
    factor,
    offset,
    strict,
    unit,
    pad,
    shape,
    places,
    weights,
    slope,
    columns,
    scale,
    shift,
    kind,
    out,
    first,
    last,
):
    """Convolve planes (image, channel) ``first`` to ``last``.

    Args: ``x`` flat uint8 codes, or float32 whose sign (step if ``strict``) of factor x + offset
    per channel counts. A code is stored ``unit`` times, a pixel of padding as ``pad``; ``shape``
    is height and width of the input and of the output, strides, lines and pixels before the
    input, lines and pixels of the padded image; ``places`` of the taps in that image;
    ``weights`` per channel and tap, int16; ``kind`` an empty array of what holds a sum.
    """
    height, width, out_height, out_width = shape[0], shape[1], shape[2], shape[3]
    down, right, pitch = shape[4], shape[5], shape[9]
    begin = shape[6] * pitch + shape[7]
    plane = np.empty(shape[8] * pitch + 2 * _RUN, np.int16)
    band = max(_BAND // pitch, 1) if down == 1 else 1  # lines of outputs summed at once
    sums = np.empty(band * pitch + 2 * _RUN, kind.dtype)
    plane[:] = pad
    between = pitch - width
    span = (out_width - 1) * right + 1
    channels, taps = len(columns), len(places)
    smallest = min(height * width, out_height * out_width)
    for number in range(first, last):
        channel = number % channels
        by, plus = np.float32(1), np.float32(0)
        on, off = np.int16(unit), np.int16(0)
        if len(factor) > 0:
            by, plus = factor[channel], offset[channel]
        if strict:  # x > 0 where not -x < 0 does not hold
            by, plus, on, off = -by, -plus, np.int16(0), np.int16(unit)
        # Vectors run over a line's end, into what is written next; not so at the very end.
        in_whole, out_whole = width, out_width
        if (last - 1 - number) * smallest < _LANES:
            in_whole, out_whole = width // _LANES * _LANES, out_width // _LANES * _LANES
        at, to = number * height * width, begin
        for _ in range(height):
            for i in range(0, in_whole, _LANES):
                _codes_16(x, at + i, by, plus, on, off, plane, to + i)
            for i in range(in_whole, width):
                if x.itemsize == 1:
                    plane[to + i] = np.int16(x[at + i]) * on
                else:
                    plane[to + i] = off if x[at + i] * by + plus < 0 else on
            for i in range(0, between + 1, _LANES):
                _fill_16(plane, to + width + i, pad)
            at += width
            to += pitch
        column, factor_out, term = columns[channel], scale[channel], shift[channel]
        to = number * out_height * out_width
        for y in range(0, out_height, band):
            lines = min(band, out_height - y)
            for start in range(0, (lines - 1) * pitch + span, _RUN):
                place = y * down * pitch + start
                _run_of_taps(plane, place, places, weights, channel * taps, sums, start)
            for at in range(0, lines * pitch, pitch):
                if right > 1:
                    for i in range(1, out_width):
                        sums[at + i] = sums[at + i * right]
                for i in range(0, out_whole, _LANES):
                    _finish_16(sums, at + i, slope, column, factor_out, term, out, to + i)
                for i in range(out_whole, out_width):
                    doubled = slope * np.int32(sums[at + i]) + column
                    out[to + i] = np.float32(0.5) * np.float32(doubled) * factor_out + term
                to += out_width
