"""What training keeps of binary activations, as compiled code: one bit per element.

Bit i of a 32-bit word belongs to element 32 * word + i of the flat tensor. A window is the
half-open interval low < x <= high of the elements that the coarse gradient passes. All functions
take addresses, the number of elements, and ranges of whole words, so that threads can share the
work. Those that end in ``_narrow`` take bfloat16 numbers, as the 16 bits that they are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from ste_lightning.kernels.jit.c_functions import (
    FLAG,
    FLOAT,
    FLOATS,
    HALVES,
    SIZE,
    WORDS,
    addressed,
    carray,
)
from ste_lightning.kernels.jit.compiling import emitted, inlined
from ste_lightning.kernels.jit.llvm import load, narrowed, pointer_to, store, widened
from ste_lightning.kernels.jit.simd import compare

__all__ = [
    *("mask_", "mask_narrow", "pack", "pack_narrow", "signs", "signs_inside", "signs_of_both"),
    *("unpack", "unpack_narrow"),
]

_FLOATS = types.Array(types.float32, 1, "C")
_VECTOR = ir.VectorType(ir.FloatType(), 32)
_WORDS = ir.VectorType(ir.IntType(32), 32)


def _splat(builder: Any, scalar: Any) -> Any:
    first = ir.Constant(ir.IntType(32), 0)
    one = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), scalar, first)
    lanes = ir.Constant(ir.VectorType(ir.IntType(32), 32), [0] * 32)
    return builder.shuffle_vector(one, ir.Constant(_VECTOR, ir.Undefined), lanes)


def _mask(builder: Any, word: Any) -> Any:
    """Return 32 lanes of one bit; made with words, which vector units without masks have."""
    index = ir.Constant(ir.IntType(32), 0)
    one = builder.insert_element(ir.Constant(_WORDS, ir.Undefined), word, index)
    every = builder.shuffle_vector(one, one, ir.Constant(_WORDS, [0] * 32))
    lanes = builder.and_(every, ir.Constant(_WORDS, [1 << lane for lane in range(32)]))
    return builder.icmp_unsigned("!=", lanes, ir.Constant(_WORDS, None))


def _load(context: Any, builder: Any, kind: Any, array: Any, start: Any, lanes: int = 32) -> Any:
    """Return numbers of an array of float32, or of bfloat16 as 16 bits."""
    pointer = pointer_to(context, builder, kind, array, start)
    if kind.dtype == types.uint16:
        return widened(builder, load(builder, pointer, ir.VectorType(ir.IntType(16), lanes), 2))
    return load(builder, pointer, ir.VectorType(ir.FloatType(), lanes), 4)


def _store(context: Any, builder: Any, values: Any, kind: Any, array: Any, start: Any) -> None:
    """Write numbers that the array's type holds exactly."""
    if kind.dtype == types.uint16:
        values = narrowed(builder, values)
    size = kind.dtype.bitwidth // 8
    store(builder, values, pointer_to(context, builder, kind, array, start), size)


@emitted
def _number(typing: Any, x: Any, at: Any) -> Any:
    """Return x[at] as float32."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        one = _load(context, builder, signature.args[0], args[0], args[1], lanes=1)
        return builder.extract_element(one, ir.Constant(ir.IntType(32), 0))

    return types.float32(x, types.int64), code


@emitted
def _write(typing: Any, out: Any, at: Any, value: Any) -> Any:
    """Write out[at] = value."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        one = ir.Constant(ir.VectorType(ir.FloatType(), 1), ir.Undefined)
        one = builder.insert_element(one, args[2], ir.Constant(ir.IntType(32), 0))
        _store(context, builder, one, signature.args[0], args[0], args[1])
        return context.get_dummy_value()

    return types.none(out, types.int64, types.float32), code


@emitted
def _inside(typing: Any, x: Any, start: Any, low: Any, high: Any) -> Any:
    """Return bit i = [low < x[start + i] <= high]."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        values = _load(context, builder, signature.args[0], args[0], args[1])
        above = builder.fcmp_ordered(">", values, _splat(builder, args[2]))
        below = builder.fcmp_ordered("<=", values, _splat(builder, args[3]))
        return builder.bitcast(builder.and_(above, below), ir.IntType(32))

    return types.uint32(x, types.int64, types.float32, types.float32), code


@emitted
def _spread(typing: Any, word: Any, low: Any, high: Any, out: Any, start: Any) -> Any:
    """Write out[start + i] = high where bit i of the word is set, else low."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        bits = _mask(builder, args[0])
        values = builder.select(bits, _splat(builder, args[2]), _splat(builder, args[1]))
        _store(context, builder, values, signature.args[3], args[3], args[4])
        return context.get_dummy_value()

    return types.none(types.uint32, types.float32, types.float32, out, types.int64), code


@emitted
def _scale(typing: Any, word: Any, outside: Any, grad: Any, start: Any) -> Any:
    """Multiply grad[start + i] by 1 where bit i of the word is set, else by ``outside``.

    A choice between grad and outside * grad would become a masked store, ten times slower.
    """

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        values = _load(context, builder, signature.args[2], args[2], args[3])
        one = _splat(builder, ir.Constant(ir.FloatType(), 1.0))
        factors = builder.select(_mask(builder, args[0]), one, _splat(builder, args[1]))
        _store(context, builder, builder.fmul(values, factors), signature.args[2], *args[2:])
        return context.get_dummy_value()

    return types.none(types.uint32, types.float32, grad, types.int64), code


@emitted
def _sign(typing: Any, x: Any, start: Any, out: Any) -> Any:
    """Write out[start + i] = -1 where x[start + i] < 0, else +1."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        values = _load(context, builder, signature.args[0], args[0], args[1])
        below = builder.fcmp_ordered("<", values, ir.Constant(_VECTOR, None))
        low, high = (_splat(builder, ir.Constant(ir.FloatType(), v)) for v in (-1.0, 1.0))
        signs = builder.select(below, low, high)
        _store(context, builder, signs, signature.args[2], args[2], args[1])
        return context.get_dummy_value()

    return types.none(_FLOATS, types.int64, _FLOATS), code


_SEVERAL = 4  # words whose comparisons become bits together: that takes longer than to compare


@emitted
def _several_signs(typing: Any, x: Any, start: Any, out: Any, low: Any, high: Any) -> Any:
    """As :func:`_sign` for several words; return bits that are all set if all are inside."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        x_, start_, out_, low_, high_ = args
        least, most = _splat(builder, low_), _splat(builder, high_)
        minus, one = (_splat(builder, ir.Constant(ir.FloatType(), v)) for v in (-1.0, 1.0))
        inside: Any = ir.Constant(ir.VectorType(ir.IntType(1), 32), [1] * 32)
        for word in range(_SEVERAL):
            at = builder.add(start_, ir.Constant(start_.type, 32 * word))
            values = _load(context, builder, signature.args[0], x_, at)
            inside = builder.and_(inside, builder.fcmp_ordered(">", values, least))
            inside = builder.and_(inside, builder.fcmp_ordered("<=", values, most))
            below = builder.fcmp_ordered("<", values, ir.Constant(_VECTOR, None))
            signs = builder.select(below, minus, one)
            _store(context, builder, signs, signature.args[2], out_, at)
        return builder.bitcast(inside, ir.IntType(32))

    return types.uint32(_FLOATS, types.int64, _FLOATS, types.float32, types.float32), code


def _pack(x_, size, strict_, masked, low, high, bits_, mask_, first, last):  # type: ignore[no-untyped-def]
    """Pack the signs (steps if ``strict_``) and, if ``masked``, the window of the elements.

    The last word of all may be shorter than 32 elements; its missing bits are zero.
    """
    x, strict = carray(x_, (size,)), strict_ != 0
    bits, mask = carray(bits_, (last,)), carray(mask_, (last,))
    for word in range(first, last):
        start = word * 32
        if start + 32 <= size:
            bits[word] = compare(x, start, strict)
            if masked:
                mask[word] = _inside(x, start, low, high)
        else:
            sign = np.uint32(0)
            inside = np.uint32(0)
            for i in range(size - start):
                v = _number(x, start + i)
                if v > 0 if strict else not (v < 0):
                    sign |= np.uint32(1) << np.uint32(i)
                if low < v and v <= high:
                    inside |= np.uint32(1) << np.uint32(i)
            bits[word] = sign
            if masked:
                mask[word] = inside


pack = addressed(FLOATS, SIZE, FLAG, FLAG, FLOAT, FLOAT, WORDS, WORDS, SIZE, SIZE)(_pack)
pack_narrow = addressed(HALVES, SIZE, FLAG, FLAG, FLOAT, FLOAT, WORDS, WORDS, SIZE, SIZE)(_pack)


def _unpack(bits_, low, high, out_, size, first, last):  # type: ignore[no-untyped-def]
    """Write ``high`` where a bit is set and ``low`` elsewhere."""
    bits, out = carray(bits_, (last,)), carray(out_, (size,))
    for word in range(first, last):
        start = word * 32
        if start + 32 <= size:
            _spread(bits[word], low, high, out, start)
        else:
            for i in range(size - start):
                _write(out, start + i, high if (bits[word] >> np.uint32(i)) & 1 else low)


unpack = addressed(WORDS, FLOAT, FLOAT, FLOATS, SIZE, SIZE, SIZE)(_unpack)
unpack_narrow = addressed(WORDS, FLOAT, FLOAT, HALVES, SIZE, SIZE, SIZE)(_unpack)


def _mask_gradient(grad_, mask_, outside, size, first, last):  # type: ignore[no-untyped-def]
    """Multiply ``grad`` by ``outside`` where a bit is not set, in place.

    bfloat16 numbers are not rounded: 0 and 1 are the factors that need no rounding.
    """
    grad, mask = carray(grad_, (size,)), carray(mask_, (last,))
    for word in range(first, last):
        start = word * 32
        if start + 32 <= size:
            _scale(mask[word], outside, grad, start)
        else:
            for i in range(size - start):
                if not (mask[word] >> np.uint32(i)) & 1:
                    _write(grad, start + i, _number(grad, start + i) * outside)


mask_ = addressed(FLOATS, WORDS, FLOAT, SIZE, SIZE, SIZE)(_mask_gradient)
mask_narrow = addressed(HALVES, WORDS, FLOAT, SIZE, SIZE, SIZE)(_mask_gradient)


@addressed(FLOATS, FLOATS, SIZE, SIZE, SIZE)
def signs(w_, out_, size, first, last):  # type: ignore[no-untyped-def]
    """Write -1 where w < 0 and +1 elsewhere; ``out`` may be ``w``."""
    w, out = carray(w_, (size,)), carray(out_, (size,))
    for word in range(first, last):
        start = word * 32
        if start + 32 <= size:
            _sign(w, start, out)
        else:
            for i in range(start, size):
                out[i] = np.float32(-1) if w[i] < 0 else np.float32(1)


@inlined
def _signs_inside(w, out, low, high, size, first, last):  # type: ignore[no-untyped-def]
    everywhere = np.uint32(0xFFFFFFFF)
    begin = first
    while begin + _SEVERAL <= last and 32 * (begin + _SEVERAL) <= size:
        everywhere &= _several_signs(w, begin * 32, out, low, high)
        begin += _SEVERAL
    for word in range(begin, last):
        start = word * 32
        if start + 32 <= size:
            everywhere &= _inside(w, start, low, high)
            _sign(w, start, out)
        else:
            for i in range(start, size):
                if not (low < w[i] and w[i] <= high):
                    everywhere = np.uint32(0)
                out[i] = np.float32(-1) if w[i] < 0 else np.float32(1)
    return np.int64(everywhere == np.uint32(0xFFFFFFFF))


@addressed(FLOATS, FLOATS, FLOAT, FLOAT, SIZE, SIZE, SIZE, returns=SIZE)
def signs_inside(w_, out_, low, high, size, first, last):  # type: ignore[no-untyped-def]
    """Write the signs like :func:`signs`; return 1 if low < w <= high holds everywhere, else 0."""
    return _signs_inside(carray(w_, (size,)), carray(out_, (size,)), low, high, size, first, last)


@addressed(FLOATS, FLOATS, SIZE, FLOATS, FLOATS, SIZE, FLOAT, FLOAT, returns=SIZE)
def signs_of_both(x_, y_, inputs, w_, v_, weights, low, high):  # type: ignore[no-untyped-def]
    """Write the signs of ``x`` to ``y`` and those of ``w`` to ``v``.

    Returns:
        1 if all of ``x`` are numbers above -inf, plus 2 if low < w <= high holds everywhere.
    """
    most = np.float32(np.inf)
    x, y = carray(x_, (inputs,)), carray(y_, (inputs,))
    numbers = _signs_inside(x, y, -most, most, inputs, 0, (inputs + 31) // 32)
    w, v = carray(w_, (weights,)), carray(v_, (weights,))
    return numbers + 2 * _signs_inside(w, v, low, high, weights, 0, (weights + 31) // 32)
