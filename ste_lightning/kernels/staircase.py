"""Floats to codes of several bits, as compiled code: how many thresholds a number has reached."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from ste_lightning.kernels.compiling import compiled, emitted

__all__ = ["count_rows", "search"]

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
            kind = signature.args[position]
            return builder.gep(context.make_array(kind)(context, builder, array).data, [at])

        def load(place: Any) -> Any:
            value = builder.load(builder.bitcast(place, _VALUES.as_pointer()))
            value.align = 1
            return value

        def splat(place: Any) -> Any:
            undefined = ir.Constant(_VALUES, ir.Undefined)
            zero = ir.Constant(ir.IntType(32), 0)
            one = builder.insert_element(undefined, builder.load(place), zero)
            return builder.shuffle_vector(one, undefined, ir.Constant(_COUNTS, [0] * _LANES))

        cell = cgutils.alloca_once(builder, _COUNTS)  # type: ignore[no-untyped-call]
        builder.store(ir.Constant(_COUNTS, None), cell)
        values = load(pointer(0, x_, start_))
        for own, read in ((True, load), (False, splat)):
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


@compiled
def count_rows(x, factor, thresholds, channels, count, inner, out, first, last):  # type: ignore[no-untyped-def]
    """Write codes of rows ``first`` to ``last``, by comparing with every threshold.

    A row is ``channels`` x ``inner`` floats. Channel c has ``factor[c]`` and the thresholds
    ``thresholds[k channels + c]``, k < ``count``.
    """
    for row in range(first, last):
        if inner == 1:
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
            continue
        for c in range(channels):
            start = (row * channels + c) * inner
            end = start + inner
            while start + 32 <= end:
                _count_32(x, start, factor, thresholds, c, channels, count, False, out)
                start += 32
            while start < end:
                value, code = x[start] * factor[c], 0
                for k in range(count):
                    code += not (value < thresholds[k * channels + c])
                out[start] = np.uint8(code)
                start += 1


@compiled
def search(x, factor, thresholds, channels, count, inner, out, first, last):  # type: ignore[no-untyped-def]
    """As :func:`count_rows`, by binary search: better for many thresholds.

    Here ``thresholds[256 c + k]`` are infinite from k = ``count`` on. A step adds instead of
    branching, since its outcome cannot be predicted.
    """
    for plane in range(first * channels, last * channels):
        c = plane % channels
        scale, table = factor[c], 256 * c
        for i in range(plane * inner, (plane + 1) * inner):
            value = x[i] * scale
            code = 128 * np.int64(not (value < thresholds[table + 127]))
            code += 64 * np.int64(not (value < thresholds[table + code + 63]))
            code += 32 * np.int64(not (value < thresholds[table + code + 31]))
            code += 16 * np.int64(not (value < thresholds[table + code + 15]))
            code += 8 * np.int64(not (value < thresholds[table + code + 7]))
            code += 4 * np.int64(not (value < thresholds[table + code + 3]))
            code += 2 * np.int64(not (value < thresholds[table + code + 1]))
            code += np.int64(not (value < thresholds[table + code]))
            out[i] = np.uint8(min(code, count))
