"""Packing, products and the way from bits to bits, as compiled code that reads a record.

Records are those of :mod:`.site`. All functions take ranges, so that threads can share the work.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from ste_lightning.kernels.addressed import (
    BYTES,
    FLAG,
    FLOATS,
    INTEGERS,
    SIZE,
    SUMS,
    carray,
    on_demand,
)
from ste_lightning.kernels.compiling import compiled, emitted, inlined
from ste_lightning.kernels.lookup import multiply_lookup, pad_lines
from ste_lightning.kernels.native import multiply, multiply_gathered
from ste_lightning.kernels.packing import pack_codes, pack_planar, pack_rows
from ste_lightning.kernels.plan import PLAN
from ste_lightning.kernels.site import IMAGE, LINE, PIXELS, PLACE, PLACES, POSITIONS, WEIGHTS
from ste_lightning.kernels.vectors import load_64, store_64

__all__ = [
    *("gathered_bits", "gathered_floats", "gathered_once"),
    *("lookup_bits", "lookup_floats", "lookup_once", "pack_codes_of"),
    *("pack_floats", "relay", "rows_bits", "rows_floats", "rows_once"),
]

_RECORD = PLAN + 2 * len(WEIGHTS)
_PANELS, _COLUMNS, _SCALE, _SHIFT = (
    WEIGHTS[name] for name in ("panels", "columns", "scale", "shift")
)
_EXTRA, _INDEX, _BORDER, _STARTS, _OFFSETS, _SIZES, _LINES = (
    PLACES[name] for name in ("extra", "index", "border", "starts", "offsets", "sizes", "lines")
)
_ANY = 1 << 60  # the length of an array whose length nobody reads


@emitted
def _pointer(typing: Any, address: Any) -> Any:
    """Return an address as a pointer."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], ir.IntType(8).as_pointer())

    return types.voidptr(types.int64), code


@compiled
def _bytes(record, at):  # type: ignore[no-untyped-def]
    return carray(_pointer(record[at]), (record[at + 1],), np.uint8)


@compiled
def _words(record, at):  # type: ignore[no-untyped-def]
    return carray(_pointer(record[at]), (record[at + 1],), np.int32)


@compiled
def _integers(record, at):  # type: ignore[no-untyped-def]
    return carray(_pointer(record[at]), (record[at + 1],), np.int64)


@compiled
def _floats(record, at):  # type: ignore[no-untyped-def]
    return carray(_pointer(record[at]), (record[at + 1],), np.float32)


@compiled
def _lookup(record, place, bits, plane, sums, extra, out, first, last, begin, end):  # type: ignore[no-untyped-def]
    multiply_lookup(
        *(record, bits, plane, sums, _integers(place, _STARTS), place[IMAGE]),
        *(_integers(place, _OFFSETS), _integers(place, _SIZES), place[PIXELS]),
        *(_words(place, _INDEX), _integers(place, _BORDER)),
        *(_bytes(record, _PANELS), _words(record, _COLUMNS), extra),
        *(_floats(record, _SCALE), _floats(record, _SHIFT), out, first, last, begin, end),
    )


@compiled
def _gathered(record, place, bits, plane, sums, extra, out, first, last):  # type: ignore[no-untyped-def]
    multiply_gathered(
        *(record, bits, plane, sums, place[PIXELS], _words(place, _INDEX)),
        *(_integers(place, _BORDER), place[POSITIONS]),
        *(_bytes(record, _PANELS), _words(record, _COLUMNS), extra),
        *(_floats(record, _SCALE), _floats(record, _SHIFT), out, first, last),
    )


@compiled
def _rows(record, bits, plane, sums, extra, out, first, last, begin, end):  # type: ignore[no-untyped-def]
    multiply(
        *(record, bits, plane, sums, _bytes(record, _PANELS), _words(record, _COLUMNS), extra),
        *(_floats(record, _SCALE), _floats(record, _SHIFT), out, first, last, begin, end),
    )


@on_demand(INTEGERS, INTEGERS, BYTES, SIZE, SUMS, FLOATS, SIZE, SIZE, SIZE, SIZE)
def lookup_floats(record_, place_, bits_, plane, sums_, out_, first, last, begin, end):  # type: ignore[no-untyped-def]
    """Write floats of rows ``first`` to ``last`` and panels ``begin`` to ``end``.

    ``bits`` are packed images, ``plane`` bytes from one plane of bits to the next, and ``sums``
    the codes' sums, which are read only where the plan has a slope for them.
    """
    record, bits = carray(record_, (_RECORD,)), carray(bits_, (_ANY,))
    place = carray(place_, (PLACE,))
    extra, sums, out = _floats(place, _EXTRA), carray(sums_, (_ANY,)), carray(out_, (_ANY,))
    _lookup(record, place, bits, plane, sums, extra, out, first, last, begin, end)


@on_demand(INTEGERS, INTEGERS, BYTES, SIZE, SUMS, BYTES, SIZE, SIZE, SIZE, SIZE)
def lookup_bits(record_, place_, bits_, plane, sums_, out_, first, last, begin, end):  # type: ignore[no-untyped-def]
    """As :func:`lookup_floats`, with bits as results: whole bytes per row."""
    record, bits = carray(record_, (_RECORD,)), carray(bits_, (_ANY,))
    place = carray(place_, (PLACE,))
    extra, sums, out = _words(place, _EXTRA), carray(sums_, (_ANY,)), carray(out_, (_ANY,))
    _lookup(record, place, bits, plane, sums, extra, out, first, last, begin, end)


@on_demand(INTEGERS, INTEGERS, BYTES, SIZE, SUMS, FLOATS, SIZE, SIZE, SIZE, SIZE)
def gathered_floats(record_, place_, bits_, plane, sums_, out_, first, last, begin, end):  # type: ignore[no-untyped-def]
    """As :func:`lookup_floats`, for the formats that gather pixels; all panels."""
    record, bits = carray(record_, (_RECORD,)), carray(bits_, (_ANY,))
    place = carray(place_, (PLACE,))
    extra, sums, out = _floats(place, _EXTRA), carray(sums_, (_ANY,)), carray(out_, (_ANY,))
    _gathered(record, place, bits, plane, sums, extra, out, first, last)


@on_demand(INTEGERS, INTEGERS, BYTES, SIZE, SUMS, BYTES, SIZE, SIZE, SIZE, SIZE)
def gathered_bits(record_, place_, bits_, plane, sums_, out_, first, last, begin, end):  # type: ignore[no-untyped-def]
    """As :func:`lookup_bits`, for the formats that gather pixels; all panels."""
    record, bits = carray(record_, (_RECORD,)), carray(bits_, (_ANY,))
    place = carray(place_, (PLACE,))
    extra, sums, out = _words(place, _EXTRA), carray(sums_, (_ANY,)), carray(out_, (_ANY,))
    _gathered(record, place, bits, plane, sums, extra, out, first, last)


@on_demand(INTEGERS, INTEGERS, BYTES, SIZE, SUMS, FLOATS, SIZE, SIZE, SIZE, SIZE)
def rows_floats(record_, place_, bits_, plane, sums_, out_, first, last, begin, end):  # type: ignore[no-untyped-def]
    """As :func:`lookup_floats`, for rows of the other formats; reads seven rows past the last."""
    record, bits = carray(record_, (_RECORD,)), carray(bits_, (_ANY,))
    place = carray(place_, (PLACE,))
    extra, sums, out = _floats(place, _EXTRA), carray(sums_, (_ANY,)), carray(out_, (_ANY,))
    _rows(record, bits, plane, sums, extra, out, first, last, begin, end)


@on_demand(INTEGERS, INTEGERS, BYTES, SIZE, SUMS, BYTES, SIZE, SIZE, SIZE, SIZE)
def rows_bits(record_, place_, bits_, plane, sums_, out_, first, last, begin, end):  # type: ignore[no-untyped-def]
    """As :func:`rows_floats`, with bits as results."""
    record, bits = carray(record_, (_RECORD,)), carray(bits_, (_ANY,))
    place = carray(place_, (PLACE,))
    extra, sums, out = _words(place, _EXTRA), carray(sums_, (_ANY,)), carray(out_, (_ANY,))
    _rows(record, bits, plane, sums, extra, out, first, last, begin, end)


@compiled
def _pack(record, place, x, planar, scale, shift, out, sums, images):  # type: ignore[no-untyped-def]
    pixels, image, lines = place[PIXELS], place[IMAGE], _integers(place, _LINES)
    dense = images * pixels * record[3] * record[7]
    bits = out
    if len(lines) > 0:
        bits = np.empty(dense + 16, np.uint8)
    if planar:
        if record[6] < 8 * record[7]:
            bits[:dense] = 0
        pack_planar(record, x, pixels, scale, shift, bits, 0, images)
    else:
        pack_rows(record, x, scale, shift, bits, sums, 0, images * pixels)
    if len(lines) > 0:
        out[: images * image] = 0
        pad_lines(bits, images, lines, place[LINE], image, out)


@on_demand(INTEGERS, INTEGERS, FLOATS, FLAG, FLOATS, FLOATS, SIZE, BYTES, SUMS, SIZE, SIZE)
def pack_floats(  # type: ignore[no-untyped-def]
    record_, place_, x_, planar, scale_, shift_, thresholds, out_, sums_, first, last
):
    """Pack the signs or steps of images ``first`` to ``last`` as products read them.

    Args: ``x`` float32 with its channels first if ``planar``, else last; ``scale`` and ``shift``
    of the thresholds, of which there are none or one per channel.
    """
    record, place = carray(record_, (_RECORD,)), carray(place_, (PLACE,))
    groups, pixels = record[3], place[PIXELS]
    x = carray(x_, (_ANY,))[first * pixels * groups * record[6] :]
    scale, shift = carray(scale_, (thresholds,)), carray(shift_, (thresholds,))
    out = carray(out_, (_ANY,))[first * place[IMAGE] :]
    sums = carray(sums_, (_ANY,))[first * pixels * groups :]
    if record[12] == 0:
        sums = sums[:0]
    _pack(record, place, x, planar, scale, shift, out, sums, last - first)


@compiled
def _packed(record, place, x_, planar, scale_, shift_, thresholds, images):  # type: ignore[no-untyped-def]
    """Return packed images and their sums, in memory that products may read behind."""
    bits = np.empty((images + 7) * place[IMAGE] + 16, np.uint8)
    count = images * place[PIXELS] * record[3]
    sums = np.empty(count if record[12] != 0 else 0, np.int32)
    scale, shift = carray(scale_, (thresholds,)), carray(shift_, (thresholds,))
    _pack(record, place, carray(x_, (_ANY,)), planar, scale, shift, bits, sums, images)
    return bits, sums


@on_demand(INTEGERS, INTEGERS, FLOATS, FLAG, FLOATS, FLOATS, SIZE, FLOATS, SIZE)
def lookup_once(record_, place_, x_, planar, scale_, shift_, thresholds, out_, images):  # type: ignore[no-untyped-def]
    """Pack and multiply in one call: floats in, as in :func:`pack_floats`, and floats out."""
    record, place = carray(record_, (_RECORD,)), carray(place_, (PLACE,))
    bits, sums = _packed(record, place, x_, planar, scale_, shift_, thresholds, images)
    extra, out, end = _floats(place, _EXTRA), carray(out_, (_ANY,)), (record[4] + 63) // 64
    rows = images * place[POSITIONS]
    _lookup(record, place, bits, 0, sums, extra, out, 0, rows, 0, end)


@on_demand(INTEGERS, INTEGERS, FLOATS, FLAG, FLOATS, FLOATS, SIZE, FLOATS, SIZE)
def gathered_once(record_, place_, x_, planar, scale_, shift_, thresholds, out_, images):  # type: ignore[no-untyped-def]
    """As :func:`lookup_once`, for the formats that gather pixels."""
    record, place = carray(record_, (_RECORD,)), carray(place_, (PLACE,))
    bits, sums = _packed(record, place, x_, planar, scale_, shift_, thresholds, images)
    extra, out = _floats(place, _EXTRA), carray(out_, (_ANY,))
    _gathered(record, place, bits, 0, sums, extra, out, 0, images * place[POSITIONS])


@on_demand(INTEGERS, INTEGERS, FLOATS, FLAG, FLOATS, FLOATS, SIZE, FLOATS, SIZE)
def rows_once(record_, place_, x_, planar, scale_, shift_, thresholds, out_, images):  # type: ignore[no-untyped-def]
    """As :func:`lookup_once`, for rows of the other formats."""
    record, place = carray(record_, (_RECORD,)), carray(place_, (PLACE,))
    bits, sums = _packed(record, place, x_, planar, scale_, shift_, thresholds, images)
    width = 32 if record[0] == 2 else 64
    extra, out, end = (
        _floats(place, _EXTRA),
        carray(out_, (_ANY,)),
        (record[4] + width - 1) // width,
    )
    _rows(record, bits, 0, sums, extra, out, 0, images, 0, end)


@on_demand(INTEGERS, INTEGERS, BYTES, BYTES, SIZE, SUMS, SIZE, SIZE)
def pack_codes_of(record_, place_, codes_, out_, plane, sums_, first, last):  # type: ignore[no-untyped-def]
    """As :func:`pack_floats`, of codes with their channels last: a plane for each of their bits."""
    record, place = carray(record_, (_RECORD,)), carray(place_, (PLACE,))
    groups, pixels, image, lines = record[3], place[PIXELS], place[IMAGE], _integers(place, _LINES)
    pixel, channels, rows = groups * record[7], record[6], (last - first) * pixels
    codes = carray(codes_, (_ANY,))[first * pixels * groups * channels :]
    for bit in range(record[1]):
        out = carray(out_, (_ANY,))[bit * plane + first * image :]
        bits = out
        if len(lines) > 0:
            bits = np.empty(rows * pixel + 16, np.uint8)
        pack_codes(record, codes, bit, bits, 0, 0, rows)
        if len(lines) > 0:
            out[: (last - first) * image] = 0
            pad_lines(bits, last - first, lines, place[LINE], image, out)
    if record[12] != 0:
        sums = carray(sums_, (_ANY,))[first * pixels * groups :]
        for row in range(rows * groups):
            total = np.int32(0)
            for c in range(row * channels, (row + 1) * channels):
                total += np.int32(codes[c])
            sums[row] = total


@inlined
def _ones(byte):  # type: ignore[no-untyped-def]
    v = np.int32(byte)
    v = v - ((v >> 1) & 0x55)
    v = (v & 0x33) + ((v >> 2) & 0x33)
    return (v + (v >> 4)) & 15


@inlined
def _pool(source, base, window, begin, end, before, after, wide, out, to):  # type: ignore[no-untyped-def]
    """Write one pixel of ``wide`` bytes: the OR over the window from ``begin`` to ``end``."""
    i = 0
    while i + 8 <= wide:
        many, own = np.uint64(0), load_64(before, i)
        for t in range(begin, end):
            if window[t] >= 0:
                many |= load_64(source, base + window[t] + i) ^ own
        store_64(out, to + i, many ^ load_64(after, i))
        i += 8
    while i < wide:
        some = np.uint8(0)
        for t in range(begin, end):
            if window[t] >= 0:
                some |= source[base + window[t] + i] ^ before[i]
        out[to + i] = some ^ after[i]
        i += 1


@inlined
def _relay(  # type: ignore[no-untyped-def]
    record,
    place,
    lines,
    source,
    source_image,
    window,
    taps,
    before,
    after,
    pixel,
    out,
    sums,
    first,
    last,
):
    groups, channels, size, pixels = record[3], record[6], record[7], place[PIXELS]
    image, step = place[IMAGE], groups * size
    wide = (groups * channels + 7) // 8
    straight = groups == 1 or channels == 8 * size
    line = place[LINE] // step if len(lines) > 0 else pixels
    for m in range(first, last):
        next_line = 0
        if len(lines) > 0:
            for i in range(m * image, (m + 1) * image):
                out[i] = 0
        to = m * image
        for p in range(pixels):
            if len(lines) > 0 and p == next_line * line:
                to = m * image + lines[next_line]
                next_line += 1
            begin, end = p * taps, (p + 1) * taps
            if straight:
                _pool(source, m * source_image, window, begin, end, before, after, wide, out, to)
                for i in range(to + wide, to + step):
                    out[i] = 0
            else:
                _pool(source, m * source_image, window, begin, end, before, after, wide, pixel, 0)
                for i in range(to, to + step):
                    out[i] = 0
                for n in range(groups * channels):
                    bit, c = (np.int64(pixel[n >> 3]) >> (n & 7)) & 1, n % channels
                    out[to + n // channels * size + (c >> 3)] |= np.uint8(bit << (c & 7))
            if record[12] != 0:
                for group in range(groups):
                    total = np.int32(0)
                    for i in range(to + group * size, to + group * size + size):
                        total += _ones(out[i])
                    sums[(m * pixels + p) * groups + group] = total
            to += step


@on_demand(INTEGERS, INTEGERS, BYTES, SIZE, INTEGERS, SIZE, BYTES, BYTES, BYTES, SUMS, SIZE, SIZE)
def relay(  # type: ignore[no-untyped-def]
    record_, place_, source_, source_image, window_, taps, before_, after_, out_, sums_, first, last
):
    """Bring images ``first`` to ``last`` of bits into the form that the next product reads.

    A pixel of the next product's input is (OR over its window of source xor ``before``) xor
    ``after``.

    Args: the next product's record; ``source`` images of ``source_image`` bytes, each pixel whole
    bytes; ``window``, for every pixel and each of ``taps``, the byte where a source pixel begins
    or -1; ``before`` and ``after`` one bit per channel; ``out`` and ``sums`` as in :func:`pack`.
    """
    record, place = carray(record_, (_RECORD,)), carray(place_, (PLACE,))
    lines, window = _integers(place, _LINES), carray(window_, (_ANY,))
    source, before, after = (
        carray(source_, (_ANY,)), carray(before_, (_ANY,)), carray(after_, (_ANY,))
    )  # fmt: skip
    out, sums = carray(out_, (_ANY,)), carray(sums_, (_ANY,))
    pixel = np.empty(record[3] * record[6] + 8, np.uint8)
    _relay(
        *(
            record,
            place,
            lines,
            source,
            source_image,
            window,
            taps,
            before,
            after,
            pixel,
            out,
            sums,
        ),
        *(first, last),
    )
