"""Floats to codes of several bits, as compiled code: how many thresholds a number has reached."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from ste_lightning.kernels.jit.arrays import empty
from ste_lightning.kernels.jit.c_functions import BYTES, FLOATS, SIZE, addressed, carray
from ste_lightning.kernels.jit.compiling import emitted, inlined
from ste_lightning.kernels.jit.cpu_features import has_avx2, vnni_bits
from ste_lightning.kernels.jit.llvm import load, pointer_to, splat
from ste_lightning.kernels.jit.simd import copy

__all__ = ["MOST_COMPARED", "count_planes", "count_rows", "search_rows"]

MOST_COMPARED = 24  # thresholds; more are searched
_FEW = 8  # thresholds; comparing with so few is faster than looking for the nearest

_FLOATS = types.Array(types.float32, 1, "C")
_LANES = 32
_VALUES, _COUNTS = ir.VectorType(ir.FloatType(), _LANES), ir.VectorType(ir.IntType(32), _LANES)
_CODES = ir.VectorType(ir.IntType(8), _LANES)


@emitted
def _count_32(
    typing: Any, x: Any, start: Any, factor: Any, thresholds: Any, first: Any, step: Any,
    count: Any, each: Any, out: Any,
) -> Any:  # fmt: skip
    """Write to ``out[start + i]`` the number of k with not (factor x < t_k), for 32 elements.

    If ``each``, element i has ``factor[first + i]`` and ``t_k = thresholds[first + i + k step]``;
    else all have those of i = 0.
    """

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        x_, start_, factor_, thresholds_, first_, step_, count_, each_, out_ = args

        def pointer(position: int, array: Any, at: Any) -> Any:
            return pointer_to(context, builder, signature.args[position], array, at)

        def own_values(place: Any) -> Any:
            return load(builder, place, _VALUES)

        def one_for_all(place: Any) -> Any:
            return splat(builder, builder.load(place), _LANES)

        cell = cgutils.alloca_once(builder, _COUNTS)  # type: ignore[no-untyped-call]
        builder.store(ir.Constant(_COUNTS, None), cell)
        values = own_values(pointer(0, x_, start_))
        for own, read in ((True, own_values), (False, one_for_all)):
            with builder.if_then(each_ if own else builder.not_(each_)):
                scaled = builder.fmul(values, read(pointer(2, factor_, first_)))
                with cgutils.for_range(builder, count_) as loop:
                    at = builder.add(first_, builder.mul(loop.index, step_))
                    reached = builder.fcmp_unordered(
                        ">=", scaled, read(pointer(3, thresholds_, at))
                    )
                    more = builder.sext(reached, _COUNTS)
                    builder.store(builder.sub(builder.load(cell), more), cell)
        codes = builder.trunc(builder.load(cell), _CODES)
        place = builder.bitcast(pointer(8, out_, start_), _CODES.as_pointer())
        builder.store(codes, place).align = 1
        return context.get_dummy_value()

    index = types.int64
    return types.none(
        *(_FLOATS, index, _FLOATS, _FLOATS, index, index, index, types.boolean),
        types.Array(types.uint8, 1, "C"),
    ), code


_16_VALUES = ir.VectorType(ir.FloatType(), 16)


def _sixteens(builder: Any, numbers: Any) -> list[Any]:
    """Return both halves of 32 integers."""
    masks = (ir.Constant(ir.VectorType(ir.IntType(32), 16), [*range(k, k + 16)]) for k in (0, 16))
    return [builder.shuffle_vector(numbers, numbers, mask) for mask in masks]


def _joined(builder: Any, halves: list[Any]) -> Any:
    mask = ir.Constant(ir.VectorType(ir.IntType(32), _LANES), [*range(_LANES)])
    return builder.shuffle_vector(*halves, mask)


def _gathered(builder: Any, table: Any, numbers: Any) -> Any:
    pointer, flags = ir.IntType(8).as_pointer(), ir.VectorType(ir.IntType(1), 16)
    kind = ir.FunctionType(_16_VALUES, [_16_VALUES, pointer, numbers.type, flags, ir.IntType(32)])
    name = "llvm.x86.avx512.mask.gather.dps.512"
    gather = cgutils.get_or_insert_function(builder.module, kind, name)  # type: ignore[no-untyped-call]
    none, all_ = ir.Constant(_16_VALUES, None), ir.Constant(flags, [1] * 16)
    scale = ir.Constant(ir.IntType(32), 4)
    return builder.call(gather, [none, builder.bitcast(table, pointer), numbers, all_, scale])


def _look_up(builder: Any, table: Any, near: Any) -> Any:
    """Return the table's entries of these numbers."""
    if vnni_bits() == 512:  # then AVX-512 is there
        return _joined(builder, [_gathered(builder, table, n) for n in _sixteens(builder, near)])
    found: Any = ir.Constant(_VALUES, ir.Undefined)
    for i in range(_LANES):
        lane = ir.Constant(ir.IntType(32), i)
        at = builder.zext(builder.extract_element(near, lane), ir.IntType(64))
        one = builder.load(builder.gep(table, [at]))
        found = builder.insert_element(found, one, lane)
    return found


def _look_up_16(builder: Any, table: Any, near: Any) -> Any:
    """As :func:`_look_up`, of the first 16 entries: both registers that they fill are permuted."""
    if vnni_bits() == 512:
        kind = ir.FunctionType(_16_VALUES, [_16_VALUES, ir.VectorType(ir.IntType(32), 16)])
        name = "llvm.x86.avx512.permvar.sf.512"
        permute = cgutils.get_or_insert_function(builder.module, kind, name)  # type: ignore[no-untyped-call]
        entries = load(builder, table, _16_VALUES, 4)
        halves = [builder.call(permute, [entries, n]) for n in _sixteens(builder, near)]
        return _joined(builder, halves)
    eight, numbers = (ir.VectorType(kind, 8) for kind in (ir.FloatType(), ir.IntType(32)))
    kind = ir.FunctionType(eight, [eight, numbers])
    name = "llvm.x86.avx2.permps"
    permute = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
    halves = []
    for half in range(2):
        place = builder.gep(table, [ir.Constant(ir.IntType(64), 8 * half)])
        value = builder.load(builder.bitcast(place, eight.as_pointer()))
        value.align = 4
        halves.append(value)

    def part(value: Any, lanes: range) -> Any:
        mask = ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), [*lanes])
        return builder.shuffle_vector(value, ir.Constant(value.type, ir.Undefined), mask)

    parts = []
    for first in range(0, _LANES, 8):
        some = part(near, range(first, first + 8))
        upper = builder.icmp_signed(">", some, ir.Constant(numbers, [7] * 8))
        lower, higher = (builder.call(permute, [half, some]) for half in halves)
        parts.append(builder.select(upper, higher, lower))
    while len(parts) > 1:
        size = range(2 * parts[0].type.count)
        mask = ir.Constant(ir.VectorType(ir.IntType(32), len(size)), [*size])
        pairs = zip(parts[::2], parts[1::2], strict=True)
        parts = [builder.shuffle_vector(a, b, mask) for a, b in pairs]
    return parts[0]


def _nearest(few: bool) -> Any:
    """Return what writes the codes of 32 elements by comparing each with one threshold.

    It is that of :func:`_near`, among at most 16 if ``few``. Where all places are further than
    ``error`` from those of thresholds, they tell by themselves: places never fall where x grows.
    """

    def nearest_32(
        typing: Any, x: Any, start: Any, scale: Any, table: Any, origin: Any, slope: Any, last: Any,
        error: Any, out: Any,
    ) -> Any:  # fmt: skip

        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            x_, start_, scale_, table_, origin_, slope_, last_, error_, out_ = args

            def data(position: int, array: Any) -> Any:
                return context.make_array(signature.args[position])(context, builder, array).data

            source = builder.bitcast(builder.gep(data(0, x_), [start_]), _VALUES.as_pointer())
            values = builder.load(source)
            values.align = 4
            values = builder.fmul(values, splat(builder, scale_, _LANES))
            place = builder.fmul(
                builder.fsub(values, splat(builder, origin_, _LANES)),
                splat(builder, slope_, _LANES),
            )
            half = ir.Constant(_VALUES, [0.5] * _LANES)
            place, zero = builder.fadd(place, half), ir.Constant(_VALUES, None)
            # three quarters beyond the last one, not-a-number too, it is reached
            most = builder.fadd(last_, ir.Constant(ir.FloatType(), 0.75))
            most = splat(builder, most, _LANES)
            place = builder.select(builder.fcmp_ordered("<", place, most), place, most)
            place = builder.select(builder.fcmp_ordered(">", place, zero), place, zero)
            near = builder.fptosi(place, _COUNTS)
            beyond = builder.fsub(builder.fsub(place, builder.sitofp(near, _VALUES)), half)
            reached = builder.fcmp_ordered(">", beyond, zero)
            cell = cgutils.alloca_once_value(builder, reached)  # type: ignore[no-untyped-call]
            builder.store(reached, cell)
            error = splat(builder, error_, _LANES)
            close = builder.and_(
                builder.fcmp_ordered("<=", beyond, error),
                builder.fcmp_ordered("<=", builder.fsub(zero, error), beyond),
            )
            any_ = builder.bitcast(close, ir.IntType(_LANES))
            with builder.if_then(builder.icmp_unsigned("!=", any_, any_.type(0)), likely=False):
                look_up = _look_up_16 if few and has_avx2() else _look_up
                compared = look_up(builder, data(3, table_), near)
                builder.store(builder.fcmp_unordered(">=", values, compared), cell)
            codes = builder.trunc(
                builder.sub(near, builder.sext(builder.load(cell), _COUNTS)), _CODES
            )
            target = builder.bitcast(builder.gep(data(8, out_), [start_]), _CODES.as_pointer())
            builder.store(codes, target).align = 1
            return context.get_dummy_value()

        number = types.float32
        return types.none(
            *(_FLOATS, types.int64, number, _FLOATS, number, number, number, number),
            types.Array(types.uint8, 1, "C"),
        ), code

    return emitted(nearest_32)


_nearest_32, _nearest_32_few = _nearest(few=False), _nearest(few=True)


@inlined
def _search(value, table, at, count):  # type: ignore[no-untyped-def]
    """Return the number of thresholds reached, of those at ``table[at:]``.

    There are 256, infinite from ``count`` on. A step adds instead of branching, since its outcome
    cannot be predicted.
    """
    code = 128 * np.int64(not (value < table[at + 127]))
    code += 64 * np.int64(not (value < table[at + code + 63]))
    code += 32 * np.int64(not (value < table[at + code + 31]))
    code += 16 * np.int64(not (value < table[at + code + 15]))
    code += 8 * np.int64(not (value < table[at + code + 7]))
    code += 4 * np.int64(not (value < table[at + code + 3]))
    code += 2 * np.int64(not (value < table[at + code + 1]))
    code += np.int64(not (value < table[at + code]))
    return min(code, count)


@inlined
def _near(value, start, slope, last):  # type: ignore[no-untyped-def]
    """Return the number, 0 to ``last``, of the threshold next to ``value``; ``last`` for NaN.

    With rounding it still never falls where ``value`` grows.
    """
    place = (value - start) * slope + np.float32(0.5)
    place = place if place < last else last
    return np.int32(place if place > 0 else np.float32(0))


@inlined
def _slope(table, count):  # type: ignore[no-untyped-def]
    """Return the slope with which :func:`_near` finds every threshold, or 0 if there is none."""
    last = np.float32(count - 1)
    slope = last / (table[count - 1] - table[0])
    if not (slope > 0 and slope < np.inf):
        return np.float32(0)
    for k in range(count):
        if _near(table[k], table[0], slope, last) != k:
            return np.float32(0)
    return slope


@inlined
def _error(table, count, slope):  # type: ignore[no-untyped-def]
    """Return how far the places of thresholds are from halves at most, less than 1/4; else 1."""
    most = np.float32(0)
    for k in range(count):
        place = (table[k] - table[0]) * slope + np.float32(0.5)
        beyond = place - np.float32(k) - np.float32(0.5)
        most = max(most, max(beyond, -beyond))
    return most if most < np.float32(0.25) else np.float32(1)


@addressed(FLOATS, FLOATS, FLOATS, SIZE, SIZE, SIZE, BYTES, SIZE, SIZE)
def count_planes(x_, factor_, thresholds_, channels, count, inner, out_, first, last):  # type: ignore[no-untyped-def]
    """Write codes of elements ``first`` to ``last`` of planes of ``inner`` floats.

    Plane p has ``factor[c]`` and ``thresholds[count c + k]``, k < ``count``, with c = p modulo
    ``channels``. Few thresholds are all compared. Equally spaced ones, up to half a step, are
    compared with the nearest alone: as its number never falls where x grows, and is k at
    threshold k, it is the code or one less. Others are searched.
    """
    x, out = carray(x_, (last,)), carray(out_, (last,))
    factor, thresholds = carray(factor_, (channels,)), carray(thresholds_, (channels * count,))
    table, scale = np.full(256, np.inf, np.float32), empty(1, np.float32)
    start, before, slope = first, -1, np.float32(0)
    while start < last:
        plane = start // inner
        end = min((plane + 1) * inner, last)
        c = plane % channels
        if c != before:
            scale[0] = factor[c]
            copy(thresholds, c * count, table, 0, count)
            slope = _slope(table, count) if count > _FEW else np.float32(0)
            before = c
        if slope > 0:
            origin, most = table[0], np.float32(count - 1)
            error = _error(table, count, slope)
            while start + 32 <= end:
                if count <= 16:
                    _nearest_32_few(x, start, scale[0], table, origin, slope, most, error, out)
                else:
                    _nearest_32(x, start, scale[0], table, origin, slope, most, error, out)
                start += 32
        elif count <= MOST_COMPARED:
            while start + 32 <= end:
                _count_32(x, start, scale, table, 0, 1, count, False, out)
                start += 32
        while start < end:
            out[start] = np.uint8(_search(x[start] * scale[0], table, 0, count))
            start += 1


@addressed(FLOATS, FLOATS, FLOATS, SIZE, SIZE, BYTES, SIZE, SIZE)
def count_rows(x_, factor_, thresholds_, channels, count, out_, first, last):  # type: ignore[no-untyped-def]
    """Write codes of rows ``first`` to ``last`` of ``channels`` floats.

    Channel c has ``factor[c]`` and ``thresholds[k channels + c]``, k < ``count``.
    """
    x, out = carray(x_, (last * channels,)), carray(out_, (last * channels,))
    factor, thresholds = carray(factor_, (channels,)), carray(thresholds_, (channels * count,))
    for row in range(first, last):
        start = row * channels
        c = 0
        while c + 32 <= channels:
            _count_32(x, start + c, factor, thresholds, c, channels, count, True, out)
            c += 32
        while c < channels:
            value, code = x[start + c] * factor[c], 0
            for k in range(count):
                code += not (value < thresholds[k * channels + c])
            out[start + c] = np.uint8(code)
            c += 1


@addressed(FLOATS, FLOATS, FLOATS, SIZE, SIZE, BYTES, SIZE, SIZE)
def search_rows(x_, factor_, thresholds_, channels, count, out_, first, last):  # type: ignore[no-untyped-def]
    """As :func:`count_rows`, by binary search: better for many thresholds.

    Here they are ``thresholds[256 c + k]``, infinite from k = ``count`` on.
    """
    x, out = carray(x_, (last * channels,)), carray(out_, (last * channels,))
    factor, thresholds = carray(factor_, (channels,)), carray(thresholds_, (channels * 256,))
    for row in range(first, last):
        for c in range(channels):
            i = row * channels + c
            out[i] = np.uint8(_search(x[i] * factor[c], thresholds, 256 * c, count))
