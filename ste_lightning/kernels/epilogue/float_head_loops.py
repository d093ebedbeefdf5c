"""Pooling, scaling and bounding of images stored pixel by pixel, as compiled code."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from ste_lightning.kernels.jit.arrays import empty
from ste_lightning.kernels.jit.c_functions import FLOATS, INTEGERS, SIZE, carray, on_demand
from ste_lightning.kernels.jit.compiling import emitted, inlined, nested
from ste_lightning.kernels.jit.llvm import load, pointer_to, splat, store
from ste_lightning.kernels.layout.read_record import floats_of, integers_of, opened
from ste_lightning.kernels.pack.transpose import turn

__all__ = ["finish", "finish_all", "multiply"]

# Entries of a tail's record, in the order in which ``Tail`` writes them.
_TAIL = 20
_IMAGE, _PIXELS, _TAPS, _CHANNELS, _LATE, _AVERAGE, _INPUTS, _OUTPUTS = range(8)
_WINDOW, _SCALE, _SHIFT, _BOUNDS, _WEIGHT, _BIAS = range(8, _TAIL, 2)

_EIGHT = ir.VectorType(ir.FloatType(), 8)
_ARRAY, _PLACES = types.Array(types.float32, 1, "C"), types.Array(types.int64, 1, "C")
_SUMS = 4  # that a product of rows keeps apart


def _bound_8(b: Any, value: Any, scale: Any, shift: Any, low: Any, high: Any) -> Any:
    value = b.fadd(b.fmul(value, scale), shift)
    value = b.select(b.fcmp_ordered("<", value, low), low, value)
    return b.select(b.fcmp_ordered(">", value, high), high, value)


@emitted
def _finish_8(
    typing: Any, y: Any, at: Any, window: Any, begin: Any, end: Any, scale: Any, shift: Any,
    channel: Any, low: Any, high: Any, late: Any, add: Any, out: Any, to: Any,
) -> Any:  # fmt: skip
    """Finish eight channels of a pixel; ``add`` to what is there, or put it there."""

    def code(context: Any, b: Any, signature: Any, args: Any) -> Any:
        y_, at_, window_, begin_, end_, scale_, shift_, channel_, low_, high_, *rest = args
        late_, add_, out_, to_ = rest
        kinds = signature.args
        source = pointer_to(context, b, kinds[0], y_, at_)
        places = pointer_to(context, b, kinds[2], window_, ir.Constant(ir.IntType(64), 0))
        numbers = (
            load(b, pointer_to(context, b, kinds[5], scale_, channel_), _EIGHT, 4),
            load(b, pointer_to(context, b, kinds[6], shift_, channel_), _EIGHT, 4),
            splat(b, low_, 8),
            splat(b, high_, 8),
        )
        most = cgutils.alloca_once_value(b, ir.Constant(_EIGHT, [float("-inf")] * 8))  # type: ignore[no-untyped-call]
        b.store(ir.Constant(_EIGHT, [float("-inf")] * 8), most)
        one = ir.Constant(ir.IntType(64), 1)
        with cgutils.for_range_slice(b, begin_, end_, one, inc=True) as (tap, _):
            place = b.load(b.gep(places, [tap]))
            with b.if_then(b.icmp_signed(">=", place, ir.Constant(place.type, 0))):
                value = load(b, b.gep(source, [place]), _EIGHT, 4)
                value = b.select(late_, _bound_8(b, value, *numbers), value)
                old = b.load(most)
                b.store(b.select(b.fcmp_ordered(">", value, old), value, old), most)
        found = b.load(most)
        found = b.select(late_, found, _bound_8(b, found, *numbers))
        target = pointer_to(context, b, kinds[12], out_, to_)
        found = b.select(add_, b.fadd(load(b, target, _EIGHT, 4), found), found)
        store(b, found, target, 4)
        return context.get_dummy_value()

    index, number, flag = types.int64, types.float32, types.boolean
    return types.none(
        *(_ARRAY, index, _PLACES, index, index, _ARRAY, _ARRAY, index, number, number),
        *(flag, flag, _ARRAY, index),
    ), code


@inlined
def _bounded(value, scale, shift, low, high):  # type: ignore[no-untyped-def]
    value = value * scale + shift
    value = low if value < low else value
    return high if value > high else value


@inlined
def _finish_pixel(  # type: ignore[no-untyped-def]
    y, image, window, begin, end, channels, scale, shift, low, high, late, add, out, to
):
    """Finish all channels of a pixel, side by side from ``out[to]`` on."""
    c = 0
    while c + 8 <= channels:
        _finish_8(
            *(y, image + c, window, begin, end, scale, shift, c, low, high, late, add, out, to + c)
        )
        c += 8
    for k in range(c, channels):
        most = np.float32(-np.inf)
        for t in range(begin, end):
            if window[t] >= 0:
                value = y[image + window[t] + k]
                if late:
                    value = _bounded(value, scale[k], shift[k], low, high)
                most = value if value > most else most
        if not late:
            most = _bounded(most, scale[k], shift[k], low, high)
        out[to + k] = out[to + k] + most if add else most


@inlined
def _finish(  # type: ignore[no-untyped-def]
    y, image, window, pixels, taps, channels, scale, shift, low, high, late, average, out, first,
    last, some,
):  # fmt: skip
    numbers = (scale, shift, low, high, late)
    for m in range(first, last):
        if average:
            to = m * channels
            for c in range(to, to + channels):
                out[c] = 0
            for p in range(0, pixels * taps, taps):
                _finish_pixel(
                    *(y, m * image, window, p, p + taps, channels, *numbers, True, out, to)
                )
            for c in range(to, to + channels):
                out[c] /= np.float32(pixels)
        else:
            for p in range(pixels):
                _finish_pixel(
                    *(y, m * image, window, p * taps, (p + 1) * taps, channels, *numbers),
                    *(False, some, p * channels),
                )
            turn(some, 0, out, m * channels * pixels, pixels, channels)


@nested
def _finished(tail, y, out, first, last):  # type: ignore[no-untyped-def]
    """Finish images ``first`` to ``last``."""
    pixels, channels, average = tail[_PIXELS], tail[_CHANNELS], tail[_AVERAGE] != 0
    bounds = floats_of(tail, _BOUNDS)
    some = empty(1 if average else channels * pixels, np.float32)
    _finish(
        *(y, tail[_IMAGE], integers_of(tail, _WINDOW), pixels, tail[_TAPS], channels),
        *(floats_of(tail, _SCALE), floats_of(tail, _SHIFT), bounds[0], bounds[1]),
        *(tail[_LATE] != 0, average, out, first, last, some),
    )


@on_demand(INTEGERS, FLOATS, FLOATS, SIZE, SIZE)
def finish(tail, y, out, first, last):  # type: ignore[no-untyped-def]
    """Finish images ``first`` to ``last``, as :class:`.tail.Tail` says, without its last layer."""
    _finished(carray(tail, (_TAIL,)), opened(y), opened(out), first, last)


@emitted
def _dot_32(typing: Any, x: Any, at: Any, w: Any, to: Any, count: Any) -> Any:
    """Return the product of ``count`` elements, a multiple of 32."""

    def code(context: Any, b: Any, signature: Any, args: Any) -> Any:
        zero = ir.Constant(_EIGHT, [0.0] * 8)
        rows = [pointer_to(context, b, signature.args[i], args[i], args[i + 1]) for i in (0, 2)]
        cells = [cgutils.alloca_once_value(b, zero) for _ in range(_SUMS)]  # type: ignore[no-untyped-call]
        for cell in cells:
            b.store(zero, cell)
        index = ir.IntType(64)
        step = ir.Constant(index, 8 * _SUMS)
        with cgutils.for_range_slice(b, ir.Constant(index, 0), args[4], step, inc=True) as (k, _):
            for i, cell in enumerate(cells):
                place = b.add(k, ir.Constant(index, 8 * i))
                values = [load(b, b.gep(row, [place]), _EIGHT, 4) for row in rows]
                b.store(b.fadd(b.load(cell), b.fmul(*values)), cell)
        total = b.fadd(
            b.fadd(b.load(cells[0]), b.load(cells[1])), b.fadd(b.load(cells[2]), b.load(cells[3]))
        )
        for half in (4, 2, 1):
            kind = ir.VectorType(ir.IntType(32), half)
            parts = (ir.Constant(kind, [*range(a, a + half)]) for a in (0, half))
            total = b.fadd(*(b.shuffle_vector(total, total, lanes) for lanes in parts))
        return b.extract_element(total, ir.Constant(ir.IntType(32), 0))

    index = types.int64
    return types.float32(_ARRAY, index, _ARRAY, index, index), code


@inlined
def _multiply(x, weight, bias, inputs, outputs, out, rows):  # type: ignore[no-untyped-def]
    whole = inputs // 32 * 32
    for row in range(rows):
        for n in range(outputs):
            at, to = row * inputs, n * inputs
            total = _dot_32(x, at, weight, to, whole)
            for k in range(whole, inputs):
                total += x[at + k] * weight[to + k]
            out[row * outputs + n] = total + bias[n]


@on_demand(INTEGERS, FLOATS, FLOATS, SIZE)
def multiply(tail_, x, out, rows):  # type: ignore[no-untyped-def]
    """Write the last layer's x W^T + b for a few rows."""
    tail = carray(tail_, (_TAIL,))
    weight, bias = floats_of(tail, _WEIGHT), floats_of(tail, _BIAS)
    _multiply(opened(x), weight, bias, tail[_INPUTS], tail[_OUTPUTS], opened(out), rows)


@nested
def finish_all(tail_, y, images, out):  # type: ignore[no-untyped-def]
    """Finish images, and multiply with the last layer where there is one."""
    tail = carray(tail_, (_TAIL,))
    inputs, outputs = tail[_INPUTS], tail[_OUTPUTS]
    if outputs == 0:
        _finished(tail, y, out, 0, images)
        return
    x = empty(images * inputs, np.float32)
    _finished(tail, y, x, 0, images)
    weight, bias = floats_of(tail, _WEIGHT), floats_of(tail, _BIAS)
    _multiply(x, weight, bias, inputs, outputs, out, images)
