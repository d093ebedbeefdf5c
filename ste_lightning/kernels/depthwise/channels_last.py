"""Convolutions of groups with few channels, as compiled code: the outputs are the lanes.

Where a group has one input channel, a panel of 64 outputs per group would be wasted. Here a
vector holds 32 outputs' own channels as words, four pixels share the weights they load, and
products are summed in 16 bits, or, where those could overflow, two taps at a time in 32 bits
(VPMADDWD). With c channels per group there are c such planes of inputs, which are further taps.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from ste_lightning.kernels.epilogue.write import finish_sums
from ste_lightning.kernels.gemm.rows import next_row
from ste_lightning.kernels.jit.arrays import empty
from ste_lightning.kernels.jit.compiling import compiled, emitted, nested
from ste_lightning.kernels.jit.llvm import load
from ste_lightning.kernels.jit.simd import compare, compare_affine, copy, store_64
from ste_lightning.kernels.layout.weight_tiles import DEPTHWISE_LANES as LANES
from ste_lightning.kernels.pack.input_bits import octets_of
from ste_lightning.kernels.ukernels.int8 import multiply_words

__all__ = ["binary_pixels", "binary_planar", "binary_rows", "convolve", "spread_codes"]

_I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_BYTES = ir.VectorType(_I8, LANES)
_WORDS, _HALF, _SUMS = ir.VectorType(_I16, LANES), ir.VectorType(_I16, 16), ir.VectorType(_I32, 16)
_ARRAY, _WEIGHTS = types.Array(types.uint8, 1, "C"), types.Array(types.int16, 1, "C")
PIXELS = 4  # that share the weights they load


def _shuffle(builder: Any, a: Any, b: Any, lanes: Iterable[int]) -> Any:
    mask = [*lanes]
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_I32, len(mask)), mask))


def _halves(builder: Any, words: Any) -> list[Any]:
    """Return both halves of 32 words, in 32 bits."""
    parts = (_shuffle(builder, words, words, range(16 * h, 16 * h + 16)) for h in range(2))
    return [builder.sext(part, _SUMS) for part in parts]


def _pairs_of(builder: Any, a: Any, b: Any) -> list[Any]:
    """Return words 0-15, then 16-31, of two vectors, one of a beside one of b."""
    return [
        _shuffle(builder, a, b, (lane for n in range(16 * h, 16 * h + 16) for lane in (n, 32 + n)))
        for h in range(2)
    ]


def _multiply_pairs(builder: Any, x: Any, w: Any) -> Any:
    """Return x w of 32 words, neighbours added, in 32 bits."""

    def half(v: Any, h: int) -> Any:
        return _shuffle(builder, v, v, range(16 * h, 16 * h + 16))

    eights = [multiply_words(builder, half(x, h), half(w, h)) for h in range(2)]
    return _shuffle(builder, eights[0], eights[1], range(16))


def _emit(b: Any, narrow: bool, codes: Any, at: Any, steps: Any, weights: Any, sums: Any) -> None:
    """Emit the loop over taps (pairs of taps); ``at`` points to their places in ``codes``."""
    kinds = [_WORDS] if narrow else [_SUMS, _SUMS]
    cells = [[cgutils.alloca_once(b, kind) for kind in kinds] for _ in range(PIXELS)]  # type: ignore[no-untyped-call]
    for row in cells:
        for cell, kind in zip(row, kinds, strict=True):
            b.store(ir.Constant(kind, None), cell)
    taps = 1 if narrow else 2
    with cgutils.for_range(b, steps) as loop:
        first = b.mul(loop.index, ir.Constant(_I64, taps * LANES))
        w = [
            load(b, b.gep(weights, [b.add(first, ir.Constant(_I64, LANES * h))]), _WORDS)
            for h in range(taps)
        ]
        for pixel, row in enumerate(cells):
            x = []
            for tap in range(taps):
                number = b.add(
                    b.mul(loop.index, ir.Constant(_I64, taps * PIXELS)),
                    ir.Constant(_I64, tap * PIXELS + pixel),
                )
                place = b.gep(codes, [b.load(b.gep(at, [number]))])
                x.append(b.zext(load(b, place, _BYTES), _WORDS))
            if narrow:
                products = [b.mul(x[0], w[0])]
            else:
                products = [
                    _multiply_pairs(b, *pair) for pair in zip(_pairs_of(b, *x), w, strict=True)
                ]
            for cell, product in zip(row, products, strict=True):
                b.store(b.add(b.load(cell), product), cell)
    for pixel, row in enumerate(cells):
        found = [b.load(cell) for cell in row]
        for half, value in enumerate(_halves(b, found[0]) if narrow else found):
            place = b.gep(sums, [ir.Constant(_I64, LANES * pixel + 16 * half)])
            b.store(value, b.bitcast(place, _SUMS.as_pointer())).align = 4


def _taps(narrow: bool) -> Any:
    """Return the micro-kernel.

    In compiled code: ``f(codes, at, lane, steps, weights, first, sums)`` writes 32 sums for each
    of four pixels over ``steps`` taps (pairs of taps unless ``narrow``); tap t of pixel p is at
    ``codes[at[4 t + p] + lane]``.
    """

    def micro_kernel(
        typing: Any, codes: Any, at: Any, lane: Any, steps: Any, weights: Any, first: Any, sums: Any
    ) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            codes_, at_, lane_, steps_, weights_, first_, sums_ = args

            def data(position: int, array: Any) -> Any:
                kind = signature.args[position]
                return context.make_array(kind)(context, builder, array).data

            source = builder.gep(data(0, codes_), [lane_])
            w = builder.gep(data(4, weights_), [first_])
            _emit(builder, narrow, source, data(1, at_), steps_, w, data(6, sums_))
            return context.get_dummy_value()

        places, sums_type = types.Array(types.int64, 1, "C"), types.Array(types.int32, 1, "C")
        index = types.int64
        return types.none(_ARRAY, places, index, index, _WEIGHTS, index, sums_type), code

    return emitted(micro_kernel)


_narrow, _wide = _taps(True), _taps(False)


@compiled
def convolve(  # type: ignore[no-untyped-def]
    codes,
    pitch,
    plane,
    planes,
    zeros,
    narrow,
    slope,
    pixels,
    index,
    border,
    positions,
    taps,
    weights,
    columns,
    padding,
    scale,
    shift,
    out,
    first,
    last,
):
    """Convolve (image, position) ``first`` to ``last``.

    ``codes`` holds ``planes`` planes of ``plane`` bytes, a pixel of ``pitch`` bytes after the
    other, and from ``zeros`` on as many zeros as the outputs have lanes, in whole vectors. The
    rest is as in :func:`.int8.multiply_gathered`.
    """
    outputs = len(columns)
    terms = taps * planes
    steps = terms if narrow else (terms + 1) // 2
    at = np.full(PIXELS * (terms + 1), zeros, np.int64)
    extra = empty(PIXELS, np.int64)
    sums = empty(PIXELS * LANES + 16, np.int32)
    sums = sums[-sums.ctypes.data % 64 // 4 :]  # from a cache line on
    by, plus = np.int32(slope), np.int32(0)
    image, position = first // positions * pixels, first % positions
    for row in range(first, last, PIXELS):
        count = min(PIXELS, last - row)
        for p in range(count):
            extra[p] = border[position] * outputs
            for t in range(taps):
                pixel = np.int64(index[position * taps + t])
                for j in range(planes):
                    place = zeros
                    if pixel >= 0:
                        place = j * plane + (image + pixel) * pitch
                    at[PIXELS * (t * planes + j) + p] = place
            image, position = next_row(image, position, positions, pixels)
        block = 0
        for n in range(0, outputs, LANES):
            if narrow:
                _narrow(codes, at, n, steps, weights, block, sums)
            else:
                _wide(codes, at, n, steps, weights, block, sums)
            block += 2 * LANES * ((terms + 1) // 2)
            valid, s, place = min(LANES, outputs - n), 0, row * outputs + n
            for p in range(count):
                finish_sums(
                    *(sums, s, by, plus, columns, scale, shift, n, padding, extra[p] + n),
                    *(out, place, valid),
                )
                s += LANES
                place += outputs


@emitted
def _store_bits(typing: Any, out: Any, at: Any, word: Any) -> Any:
    """Write 32 bytes of 0 or 1: the bits of ``word``."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        flags = builder.bitcast(args[2], ir.VectorType(ir.IntType(1), 32))
        place = builder.bitcast(builder.gep(data, [args[1]]), _BYTES.as_pointer())
        builder.store(builder.zext(flags, _BYTES), place).align = 1
        return context.get_dummy_value()

    return types.none(_ARRAY, types.int64, types.uint32), code


@nested
def binary_pixels(x, at, channels, strict, scale, shift, out, to, count):  # type: ignore[no-untyped-def]
    """Write the signs (or steps, if ``strict``) of ``count`` pixels from ``x[at]`` on as bytes.

    Channels are last; ``scale`` and ``shift``, if not empty, are those of scale x + shift per
    channel.
    """
    affine = len(scale) > 0
    for pixel in range(count):
        start, place = at + pixel * channels, to + pixel * channels
        c = 0
        while c + 32 <= channels:
            if affine:
                word = compare_affine(x, start + c, strict, scale, shift, c)
            else:
                word = compare(x, start + c, strict)
            _store_bits(out, place + c, word)
            c += 32
        while c < channels:
            value = x[start + c]
            if affine:
                value = value * scale[c] + shift[c]
            out[place + c] = np.uint8(value > 0 if strict else not (value < 0))
            c += 1


@compiled
def binary_rows(x, channels, strict, scale, shift, out, lanes, first, last):  # type: ignore[no-untyped-def]
    """As :func:`binary_pixels`, of pixels ``first`` to ``last``; ``out`` has as many lanes."""
    at = first * channels
    binary_pixels(x, at, channels, strict, scale, shift, out, at, last - first)


@compiled
def binary_planar(x, channels, pixels, strict, scale, shift, out, lanes, first, last):  # type: ignore[no-untyped-def]
    """As :func:`binary_rows`, of images ``first`` to ``last`` stored channel by channel.

    At least 32 pixels, and ``lanes`` rounded up to eight.
    """
    affine = len(scale) > 0
    part = empty(32, np.uint8)
    for image in range(first, last):
        for c in range(0, channels, 8):
            count = min(8, channels - c)
            plane = (image * channels + c) * pixels
            for block in range(0, pixels, 32):
                start = min(block, pixels - 32)
                octets_of(x, plane + start, pixels, count, strict, affine, scale, shift, c, part)
                at = (image * pixels + start) * lanes + c
                for i in range(32):
                    chosen = np.uint64(part[i]) * np.uint64(0x0101010101010101)
                    chosen &= np.uint64(0x8040201008040201)
                    chosen += np.uint64(0x7F7F7F7F7F7F7F7F)  # bit 7 of a byte that is not zero
                    store_64(out, at, (chosen >> np.uint64(7)) & np.uint64(0x0101010101010101))
                    at += lanes


@compiled
def spread_codes(codes, channels, groups, outputs, out, lanes, plane, first, last):  # type: ignore[no-untyped-def]
    """Write each output's channels, plane by plane, of pixels ``first`` to ``last``.

    ``codes`` has ``groups`` x ``channels`` bytes per pixel, ``out`` ``lanes`` per pixel and plane.
    """
    if channels == 1 and outputs == 1 and groups == lanes:
        copy(codes, first * lanes, out, first * lanes, (last - first) * lanes)
        return
    for pixel in range(first, last):
        source = pixel * groups * channels
        for j in range(channels):
            at = j * plane + pixel * lanes
            if channels == 1 and outputs == 1:
                copy(codes, source, out, at, groups)
                continue
            for group in range(groups):
                code = codes[source + group * channels + j]
                for n in range(outputs):
                    out[at + group * outputs + n] = code
