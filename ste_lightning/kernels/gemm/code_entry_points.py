"""Products whose results are codes, and max pooling of codes, as compiled code.

Records are those of :mod:`.call_record`, whose columns are the table of :mod:`.requantize`, and
whose extra integers are added to every sum. All functions take ranges, so that threads can share
the work.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from ste_lightning.kernels.gemm import int8
from ste_lightning.kernels.gemm.entry_points import by_gathering, by_lookup, by_rows
from ste_lightning.kernels.jit.arrays import as_int8
from ste_lightning.kernels.jit.c_functions import BYTES, INTEGERS, SIZE, SUMS, carray, on_demand
from ste_lightning.kernels.jit.compiling import emitted, inlined
from ste_lightning.kernels.jit.llvm import load, pointer_to, store
from ste_lightning.kernels.layout.call_record import ARRAYS, NUMBERS
from ste_lightning.kernels.layout.read_record import (
    bytes_of,
    floats_of,
    integers_of,
    opened,
    record_at,
    words_of,
)
from ste_lightning.kernels.pack import input_codes

__all__ = [
    *("gathered", "gathered_digits", "lookup", "pack_digits", "pool", "rows", "rows_of_digits"),
]

_POSITIONS, _PIXELS = NUMBERS["positions"], NUMBERS["pixels"]
_PANELS, _COLUMNS, _SCALE, _SHIFT = (ARRAYS[n] for n in ("panels", "columns", "scale", "shift"))
_EXTRA, _INDEX, _BORDER = (ARRAYS[name] for name in ("extra", "index", "border"))
_ARGUMENTS = (INTEGERS, BYTES, SIZE, SUMS, BYTES, SIZE, SIZE, SIZE, SIZE)


@on_demand(*_ARGUMENTS)
def lookup(record_, bits_, plane, sums_, out_, first, last, begin, end):  # type: ignore[no-untyped-def]
    """Write codes of rows ``first`` to ``last`` and panels ``begin`` to ``end``.

    Args as in :func:`.site_products.lookup_bits`.
    """
    given = (record_at(record_), opened(bits_), plane, opened(sums_), as_int8(opened(out_)))
    by_lookup(*given, first, last, begin, end)


@on_demand(*_ARGUMENTS)
def gathered(record_, bits_, plane, sums_, out_, first, last, begin, end):  # type: ignore[no-untyped-def]
    """As :func:`lookup`, for the formats of bits that gather pixels; all panels."""
    given = (record_at(record_), opened(bits_), plane, opened(sums_), as_int8(opened(out_)))
    by_gathering(*given, first, last, begin, end)


@on_demand(*_ARGUMENTS)
def rows(record_, bits_, plane, sums_, out_, first, last, begin, end):  # type: ignore[no-untyped-def]
    """As :func:`gathered`, for rows; reads seven rows past the last."""
    given = (record_at(record_), opened(bits_), plane, opened(sums_), as_int8(opened(out_)))
    by_rows(*given, first, last, begin, end)


@on_demand(*_ARGUMENTS)
def gathered_digits(record_, bits_, plane, sums_, out_, first, last, begin, end):  # type: ignore[no-untyped-def]
    """As :func:`gathered`, for the formats whose kernels sum products."""
    record = record_at(record_)
    int8.multiply_gathered(
        *(record, opened(bits_), plane, opened(sums_), record[_PIXELS]),
        *(words_of(record, _INDEX), integers_of(record, _BORDER), record[_POSITIONS]),
        *(bytes_of(record, _PANELS), words_of(record, _COLUMNS), words_of(record, _EXTRA)),
        *(floats_of(record, _SCALE), floats_of(record, _SHIFT), as_int8(opened(out_)), first, last),
    )


@on_demand(*_ARGUMENTS)
def rows_of_digits(record_, bits_, plane, sums_, out_, first, last, begin, end):  # type: ignore[no-untyped-def]
    """As :func:`rows`, for the formats whose kernels sum products; reads three rows past."""
    record = record_at(record_)
    int8.multiply(
        *(record, opened(bits_), plane, opened(sums_)),
        *(bytes_of(record, _PANELS), words_of(record, _COLUMNS), words_of(record, _EXTRA)),
        *(floats_of(record, _SCALE), floats_of(record, _SHIFT), as_int8(opened(out_))),
        *(first, last, begin, end),
    )


@emitted
def _largest_32(
    typing: Any, source: Any, base: Any, window: Any, begin: Any, end: Any, flips: Any,
    channel: Any, out: Any, to: Any,
) -> Any:  # fmt: skip
    """Write the largest codes of a window for 32 channels; the smallest where ``flips`` is 255."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source_, base_, window_, begin_, end_, flips_, channel_, out_, to_ = args
        kind, index = ir.VectorType(ir.IntType(8), 32), ir.IntType(64)

        def element(position: int, array: Any, at: Any) -> Any:
            return pointer_to(context, builder, signature.args[position], array, at)

        flip = load(builder, element(5, flips_, channel_), kind)
        cell = cgutils.alloca_once(builder, kind)  # type: ignore[no-untyped-call]
        builder.store(ir.Constant(kind, None), cell)
        with cgutils.for_range_slice(builder, begin_, end_, index(1), inc=True) as (t, _):
            place = builder.load(element(2, window_, t))
            with builder.if_then(builder.icmp_signed(">=", place, index(0))):
                at = builder.add(builder.add(base_, place), channel_)
                value = builder.xor(load(builder, element(0, source_, at), kind), flip)
                most = builder.load(cell)
                larger = builder.icmp_unsigned(">", value, most)
                builder.store(builder.select(larger, value, most), cell)
        target = element(7, out_, builder.add(to_, channel_))
        store(builder, builder.xor(builder.load(cell), flip), target)
        return context.get_dummy_value()

    array, size = types.Array(types.uint8, 1, "C"), types.int64
    places = types.Array(types.int64, 1, "C")
    return types.none(array, size, places, size, size, array, size, array, size), code


@inlined
def _pool(source, base, window, begin, end, flips, channels, out, to):  # type: ignore[no-untyped-def]
    """Write one pixel: the largest code of the window, the smallest where ``flips`` is 255."""
    c = 0
    while c + 32 <= channels:
        _largest_32(source, base, window, begin, end, flips, c, out, to)
        c += 32
    while c < channels:
        most = np.uint8(0)
        for t in range(begin, end):
            if window[t] >= 0:
                most = max(most, source[base + window[t] + c] ^ flips[c])
        out[to + c] = most ^ flips[c]
        c += 1


@on_demand(BYTES, SIZE, INTEGERS, SIZE, SIZE, BYTES, SIZE, BYTES, SIZE, SIZE)
def pool(source_, image, window_, pixels, taps, flips_, channels, out_, first, last):  # type: ignore[no-untyped-def]
    """Pool codes of images ``first`` to ``last``, of ``image`` bytes with their channels last.

    Args: ``window``, for every pixel and each of ``taps``, where a source pixel begins or -1;
    ``flips``, per channel, 255 where the smallest code is wanted instead of the largest.
    """
    source, window = opened(source_), opened(window_)
    flips, out = opened(flips_), opened(out_)
    for m in range(first, last):
        for p in range(pixels):
            to = (m * pixels + p) * channels
            begin = p * taps
            _pool(source, m * image, window, begin, begin + taps, flips, channels, out, to)


@on_demand(INTEGERS, BYTES, BYTES, SIZE, SUMS, SIZE, SIZE)
def pack_digits(record_, codes_, out_, plane, sums_, first, last):  # type: ignore[no-untyped-def]
    """Pack rows ``first`` to ``last`` of codes, as :func:`.code_rows.pack_digits` says."""
    record = record_at(record_)
    sums = carray(sums_, (last * record[3] if record[12] != 0 else 0,))
    input_codes.pack_digits(*(record, opened(codes_), opened(out_), plane, sums, first, last))
