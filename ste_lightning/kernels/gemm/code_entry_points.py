"""Codes packed for products, and max pooling of codes, as compiled code.

All functions take ranges, so that threads can share the work.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from ste_lightning.kernels.jit.c_functions import BYTES, INTEGERS, SIZE, SUMS, carray, on_demand
from ste_lightning.kernels.jit.compiling import emitted, inlined
from ste_lightning.kernels.jit.llvm import load, pointer_to, store
from ste_lightning.kernels.layout.plan import PLAN_GROUPS, PLAN_ROW_SLOPE
from ste_lightning.kernels.layout.read_record import opened, record_at
from ste_lightning.kernels.pack import input_codes

__all__ = ["pack_digits", "pool"]


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
    sums = carray(sums_, (last * record[PLAN_GROUPS] if record[PLAN_ROW_SLOPE] != 0 else 0,))
    input_codes.pack_digits(*(record, opened(codes_), opened(out_), plane, sums, first, last))
