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
from ste_lightning.kernels.jit.cpu_features import vnni_bits
from ste_lightning.kernels.jit.llvm import load, pointer_to, splat
from ste_lightning.kernels.jit.simd import copy

__all__ = ["MOST_COMPARED", "count_planes", "count_rows", "search_rows"]

MOST_COMPARED = 24  # thresholds; more are searched
_FEW = 8  # thresholds; comparing with so few is faster than looking for the nearest
_ORIGIN, _BEHIND = 768.0, 14  # a float from it to 1024 ends with 14 bits behind the point
_CLOSE = 8  # units of the last bit

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


def _look_up(builder: Any, table: Any, numbers: Any) -> Any:
    """Return the table's entries of these numbers."""
    if vnni_bits() == 512:  # then AVX-512 is there
        return _joined(builder, [_gathered(builder, table, n) for n in _sixteens(builder, numbers)])
    found: Any = ir.Constant(_VALUES, ir.Undefined)
    for i in range(_LANES):
        lane = ir.Constant(ir.IntType(32), i)
        at = builder.zext(builder.extract_element(numbers, lane), ir.IntType(64))
        one = builder.load(builder.gep(table, [at]))
        found = builder.insert_element(found, one, lane)
    return found


def _constant(value: float, kind: Any = _VALUES) -> Any:
    return ir.Constant(kind, [value] * _LANES)


@emitted
def _nearest_32(
    typing: Any, x: Any, start: Any, scale: Any, table: Any, slope: Any, offset: Any, count: Any,
    far: Any, out: Any,
) -> Any:  # fmt: skip
    """Write the codes of 32 elements by their places among equally spaced thresholds.

    The place of a number is v slope + offset, v = scale x, plus :data:`_ORIGIN`, so that the last
    14 bits of the float are the part behind the point. Rounded or not, it never falls where v
    grows. Threshold k has the place k + 1 and a few units of the last bits. So the bits before the
    point are the code, unless none of those behind that are in ``far`` is set: then all 32 are
    compared with the threshold next to them. With ``far`` = 0 they always are.
    """

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        x_, start_, scale_, table_, slope_, offset_, count_, far_, out_ = args

        def data(position: int, array: Any) -> Any:
            return context.make_array(signature.args[position])(context, builder, array).data

        source = builder.bitcast(builder.gep(data(0, x_), [start_]), _VALUES.as_pointer())
        values = builder.load(source)
        values.align = 4
        values = builder.fmul(values, splat(builder, scale_, _LANES))
        place = builder.fmul(values, splat(builder, slope_, _LANES))
        place = builder.fadd(place, splat(builder, offset_, _LANES))
        # half a step beyond the first and the last: codes 0 and count (NaN's too), near to none
        first, half = _constant(_ORIGIN + 0.5), ir.Constant(ir.FloatType(), _ORIGIN + 0.5)
        last = splat(builder, builder.fadd(builder.uitofp(count_, ir.FloatType()), half), _LANES)
        place = builder.select(builder.fcmp_ordered("<", place, last), place, last)
        place = builder.select(builder.fcmp_ordered(">", place, first), place, first)
        bits = builder.bitcast(place, _COUNTS)
        behind = builder.and_(bits, splat(builder, far_, _LANES))
        close = builder.icmp_signed("==", behind, ir.Constant(_COUNTS, None))
        any_ = builder.bitcast(close, ir.IntType(_LANES))
        found = builder.lshr(bits, _constant(_BEHIND, _COUNTS))
        cell = cgutils.alloca_once_value(builder, found)  # type: ignore[no-untyped-call]
        with builder.if_then(builder.icmp_unsigned("!=", any_, any_.type(0)), likely=False):
            # half a step less, and the codes become the numbers of the thresholds
            numbers = builder.sub(bits, _constant(1 << (_BEHIND - 1), _COUNTS))
            numbers = builder.lshr(numbers, _constant(_BEHIND, _COUNTS))
            numbers = builder.and_(numbers, _constant(255, _COUNTS))
            final = splat(builder, builder.sub(count_, count_.type(1)), _LANES)
            below = builder.icmp_signed("<", numbers, final)
            numbers = builder.select(below, numbers, final)
            compared = _look_up(builder, data(3, table_), numbers)
            reached = builder.fcmp_unordered(">=", values, compared)
            builder.store(builder.sub(numbers, builder.sext(reached, _COUNTS)), cell)
        target = builder.bitcast(builder.gep(data(8, out_), [start_]), _CODES.as_pointer())
        builder.store(builder.trunc(builder.load(cell), _CODES), target).align = 1
        return context.get_dummy_value()

    number, whole = types.float32, types.int32
    return types.none(
        *(_FLOATS, types.int64, number, _FLOATS, number, number, whole, whole),
        types.Array(types.uint8, 1, "C"),
    ), code


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
def _line(table, count):  # type: ignore[no-untyped-def]
    """Return slope, offset and ``far`` of :func:`_nearest_32`; 0 for a slope if there is none.

    Few thresholds that are not equally spaced are all compared instead.
    """
    slope = np.float32(count - 1) / (table[count - 1] - table[0])
    above = np.float32(_CLOSE) / np.float32(2 << _BEHIND)  # the middle of what is close
    offset = np.float32(_ORIGIN) + (np.float32(1) + above - table[0] * slope)
    found, even = 0 < slope < np.inf, True
    for k in range(count):
        place = table[k] * slope + offset - np.float32(_ORIGIN + 1 + k)
        even = even and 0 <= place * np.float32(1 << _BEHIND) < _CLOSE
        found = found and -0.5 < place - above < 0.5
    if not (found and (even or count > MOST_COMPARED)):
        slope = np.float32(0)
    return slope, offset, np.int32((1 << _BEHIND) - _CLOSE if even else 0)


@addressed(FLOATS, FLOATS, FLOATS, SIZE, SIZE, SIZE, BYTES, SIZE, SIZE)
def count_planes(x_, factor_, thresholds_, channels, count, inner, out_, first, last):  # type: ignore[no-untyped-def]
    """Write codes of elements ``first`` to ``last`` of planes of ``inner`` floats.

    Plane p has ``factor[c]`` and ``thresholds[count c + k]``, k < ``count``, with c = p modulo
    ``channels``. Few thresholds are all compared. Of equally spaced ones, up to half a step, the
    nearest alone matters. Others are searched.
    """
    x, out = carray(x_, (last,)), carray(out_, (last,))
    factor, thresholds = carray(factor_, (channels,)), carray(thresholds_, (channels * count,))
    table, scale = np.full(256, np.inf, np.float32), empty(1, np.float32)
    start, before = first, -1
    slope, offset, far = np.float32(0), np.float32(0), np.int32(0)
    while start < last:
        plane = start // inner
        end = min((plane + 1) * inner, last)
        c = plane % channels
        if c != before:
            scale[0] = factor[c]
            copy(thresholds, c * count, table, 0, count)
            slope = np.float32(0)
            if count > _FEW:
                slope, offset, far = _line(table, count)
            before = c
        if slope > 0:
            while start + 32 <= end:
                _nearest_32(x, start, scale[0], table, slope, offset, np.int32(count), far, out)
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
