"""Convolutions of groups with few channels, as compiled code: the outputs are the lanes.

Where a group has one input channel, a panel of 64 outputs per group would be wasted. Here a
vector holds one byte of 32 outputs' own channels: VPMADDUBSW multiplies two taps at a time and
adds them, or VPMADDWD, where 16 bits could overflow. With c channels per group there are c such
planes of inputs, which are further taps.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from ste_lightning.kernels.epilogue.write import finish_sums
from ste_lightning.kernels.jit.compiling import compiled, emitted
from ste_lightning.kernels.jit.llvm import load
from ste_lightning.kernels.jit.simd import compare, compare_affine, store_64
from ste_lightning.kernels.pack.input_bits import octets_of
from ste_lightning.kernels.ukernels.int8 import multiply_bytes, multiply_words

__all__ = ["binary_planar", "binary_rows", "convolve", "spread_codes"]

_I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_BYTES, _WORDS, _SUMS = ir.VectorType(_I8, 32), ir.VectorType(_I16, 16), ir.VectorType(_I32, 8)
_ARRAY = types.Array(types.uint8, 1, "C")
# Pairs of bytes of two vectors as VPUNPCKLBW and VPUNPCKHBW interleave them: outputs 0-7 and
# 16-23, outputs 8-15 and 24-31.
_OUTPUTS = [[*range(8 * h, 8 * h + 8), *range(8 * h + 16, 8 * h + 24)] for h in range(2)]


def _shuffle(builder: Any, a: Any, b: Any, lanes: list[int]) -> Any:
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_I32, len(lanes)), lanes))


def _emit(b: Any, narrow: bool, bits: Any, at: Any, pairs: Any, panel: Any, sums: Any) -> None:
    """Emit the loop over pairs of taps; ``at`` points to their places in ``bits``."""
    kind, per_half = (_WORDS, 1) if narrow else (_SUMS, 2)
    cells = [cgutils.alloca_once(b, kind) for _ in range(2 * per_half)]  # type: ignore[no-untyped-call]
    for cell in cells:
        b.store(ir.Constant(kind, None), cell)
    with cgutils.for_range(b, pairs) as loop:
        taps = []
        for tap in range(2):
            number = b.add(b.mul(loop.index, ir.Constant(_I64, 2)), ir.Constant(_I64, tap))
            taps.append(load(b, b.gep(bits, [b.load(b.gep(at, [number]))]), _BYTES))
        weights = b.gep(panel, [b.mul(loop.index, ir.Constant(_I64, 64))])
        for half, outputs in enumerate(_OUTPUTS):
            lanes = [lane for n in outputs for lane in (n, 32 + n)]
            x = _shuffle(b, taps[0], taps[1], lanes)
            w = load(b, b.gep(weights, [ir.Constant(_I64, 32 * half)]), _BYTES)
            for part in range(per_half):
                if narrow:
                    product = multiply_bytes(b, x, w)
                else:
                    some = [*range(16 * part, 16 * part + 16)]
                    product = multiply_words(
                        b,
                        b.zext(_shuffle(b, x, x, some), _WORDS),
                        b.sext(_shuffle(b, w, w, some), _WORDS),
                    )
                cell = cells[half * per_half + part]
                b.store(b.add(b.load(cell), product), cell)
    for half in range(2):
        for part in range(2):
            if narrow:
                found = b.load(cells[half])
                eight = _shuffle(b, found, found, [*range(8 * part, 8 * part + 8)])
                found = b.sext(eight, _SUMS)
            else:
                found = b.load(cells[2 * half + part])
            place = b.gep(sums, [ir.Constant(_I64, 8 * half + 16 * part)])
            b.store(found, b.bitcast(place, _SUMS.as_pointer())).align = 4


def _taps(narrow: bool) -> Any:
    """Return the micro-kernel.

    In compiled code: ``f(bits, at, lane, pairs, panels, panel, sums)`` writes to ``sums`` 32 sums
    over 2 x ``pairs`` taps, whose bytes are at ``bits[at[t] + lane]``.
    """

    def micro_kernel(
        typing: Any, bits: Any, at: Any, lane: Any, pairs: Any, panels: Any, panel: Any, sums: Any
    ) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            bits_, at_, lane_, pairs_, panels_, panel_, sums_ = args

            def data(position: int, array: Any) -> Any:
                kind = signature.args[position]
                return context.make_array(kind)(context, builder, array).data

            first = builder.gep(data(0, bits_), [lane_])
            weights = builder.gep(data(4, panels_), [panel_])
            _emit(builder, narrow, first, data(1, at_), pairs_, weights, data(6, sums_))
            return context.get_dummy_value()

        places, sums_type = types.Array(types.int64, 1, "C"), types.Array(types.int32, 1, "C")
        index = types.int64
        return types.none(_ARRAY, places, index, index, _ARRAY, index, sums_type), code

    return emitted(micro_kernel)


_narrow, _wide = _taps(True), _taps(False)


@compiled
def convolve(  # type: ignore[no-untyped-def]
    bits,
    lanes,
    plane,
    planes,
    narrow,
    slope,
    pixels,
    index,
    border,
    positions,
    taps,
    panels,
    columns,
    padding,
    scale,
    shift,
    out,
    first,
    last,
):
    """Convolve (image, position) ``first`` to ``last``.

    ``bits`` holds ``planes`` planes of ``plane`` bytes, a pixel of ``lanes`` bytes after the
    other, and then ``lanes`` zeros. The rest is as in :func:`.integers.multiply_gathered`.
    """
    outputs = len(columns)
    pairs = (taps * planes + 1) // 2
    zeros = planes * plane
    at = np.empty(2 * pairs, np.int64)
    at[2 * pairs - 1] = zeros
    sums = np.empty(32, np.int32)
    for row in range(first, last):
        image, position = divmod(row, positions)
        for t in range(taps):
            pixel = np.int64(index[position * taps + t])
            for j in range(planes):
                place = zeros
                if pixel >= 0:
                    place = j * plane + (image * pixels + pixel) * lanes
                at[t * planes + j] = place
        for lane in range(0, lanes, 32):
            if narrow:
                _narrow(bits, at, lane, pairs, panels, lane * pairs * 2, sums)
            else:
                _wide(bits, at, lane, pairs, panels, lane * pairs * 2, sums)
            count = min(32, outputs - lane)
            extra = border[position] * outputs + lane
            place = row * outputs + lane
            finish_sums(
                sums,
                0,
                np.int32(slope),
                np.int32(0),
                columns,
                scale,
                shift,
                lane,
                padding,
                extra,
                out,
                place,
                count,
            )


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


@compiled
def binary_rows(x, channels, strict, scale, shift, out, lanes, first, last):  # type: ignore[no-untyped-def]
    """Write the signs (or steps, if ``strict``) of pixels ``first`` to ``last`` as bytes.

    ``x`` has its channels last; ``out`` has ``lanes`` bytes per pixel; ``scale`` and ``shift``, if
    not empty, are those of scale x + shift per channel.
    """
    affine = len(scale) > 0
    for pixel in range(first, last):
        start, at = pixel * channels, pixel * lanes
        c = 0
        while c + 32 <= channels:
            if affine:
                word = compare_affine(x, start + c, strict, scale, shift, c)
            else:
                word = compare(x, start + c, strict)
            _store_bits(out, at + c, word)
            c += 32
        while c < channels:
            value = x[start + c]
            if affine:
                value = value * scale[c] + shift[c]
            out[at + c] = np.uint8(value > 0 if strict else not (value < 0))
            c += 1


@compiled
def binary_planar(x, channels, pixels, strict, scale, shift, out, lanes, first, last):  # type: ignore[no-untyped-def]
    """As :func:`binary_rows`, of images ``first`` to ``last`` stored channel by channel.

    At least 32 pixels, and ``lanes`` rounded up to eight.
    """
    affine = len(scale) > 0
    part = np.empty(32, np.uint8)
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
        out[first * lanes : last * lanes] = codes[first * lanes : last * lanes]
        return
    for pixel in range(first, last):
        source = pixel * groups * channels
        for j in range(channels):
            at = j * plane + pixel * lanes
            if channels == 1 and outputs == 1:
                out[at : at + groups] = codes[source : source + groups]
                continue
            for group in range(groups):
                code = codes[source + group * channels + j]
                for n in range(outputs):
                    out[at + group * outputs + n] = code
