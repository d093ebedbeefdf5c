"""What training keeps of binary activations, as compiled code: one bit per element.

Bit i of a 32-bit word belongs to element 32 * word + i of the flat tensor. A window is the
half-open interval low < x <= high of the elements that the coarse gradient passes. All functions
take ranges of whole words, so that threads can share the work.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from ste_lightning.kernels.compiling import compiled, emitted
from ste_lightning.kernels.vectors import compare

__all__ = ["mask_", "pack", "signs", "unpack"]

_FLOATS = types.Array(types.float32, 1, "C")
_VECTOR = ir.VectorType(ir.FloatType(), 32)
_WORDS = ir.VectorType(ir.IntType(32), 32)


def _at(context: Any, builder: Any, kind: Any, array: Any, start: Any) -> Any:
    data = builder.gep(context.make_array(kind)(context, builder, array).data, [start])
    return builder.bitcast(data, _VECTOR.as_pointer())


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


def _load(context: Any, builder: Any, kind: Any, array: Any, start: Any) -> Any:
    values = builder.load(_at(context, builder, kind, array, start))
    values.align = 4
    return values


@emitted
def _inside(typing: Any, x: Any, start: Any, low: Any, high: Any) -> Any:
    """Return bit i = [low < x[start + i] <= high]."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        values = _load(context, builder, signature.args[0], args[0], args[1])
        above = builder.fcmp_ordered(">", values, _splat(builder, args[2]))
        below = builder.fcmp_ordered("<=", values, _splat(builder, args[3]))
        return builder.bitcast(builder.and_(above, below), ir.IntType(32))

    return types.uint32(_FLOATS, types.int64, types.float32, types.float32), code


@emitted
def _spread(typing: Any, word: Any, low: Any, high: Any, out: Any, start: Any) -> Any:
    """Write out[start + i] = high where bit i of the word is set, else low."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        bits = _mask(builder, args[0])
        values = builder.select(bits, _splat(builder, args[2]), _splat(builder, args[1]))
        target = _at(context, builder, signature.args[3], args[3], args[4])
        builder.store(values, target).align = 4
        return context.get_dummy_value()

    return types.none(types.uint32, types.float32, types.float32, _FLOATS, types.int64), code


@emitted
def _scale(typing: Any, word: Any, outside: Any, grad: Any, start: Any) -> Any:
    """Multiply grad[start + i] by ``outside`` where bit i of the word is not set."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        values = _load(context, builder, signature.args[2], args[2], args[3])
        scaled = builder.fmul(values, _splat(builder, args[1]))
        target = _at(context, builder, signature.args[2], args[2], args[3])
        builder.store(builder.select(_mask(builder, args[0]), values, scaled), target).align = 4
        return context.get_dummy_value()

    return types.none(types.uint32, types.float32, _FLOATS, types.int64), code


@compiled
def pack(x, strict, masked, low, high, bits, mask, first, last):  # type: ignore[no-untyped-def]
    """Pack the signs (steps if ``strict``) and, if ``masked``, the window of the elements.

    Args: ``x`` flat float32; ``bits`` and ``mask`` uint32 words ``first`` to ``last``; the last
    word of all may be shorter than 32 elements, its missing bits are zero.
    """
    for word in range(first, last):
        start = word * 32
        if start + 32 <= len(x):
            bits[word] = compare(x, start, strict)
            if masked:
                mask[word] = _inside(x, start, low, high)
        else:
            sign = np.uint32(0)
            inside = np.uint32(0)
            for i in range(len(x) - start):
                v = x[start + i]
                if v > 0 if strict else not (v < 0):
                    sign |= np.uint32(1) << np.uint32(i)
                if low < v and v <= high:
                    inside |= np.uint32(1) << np.uint32(i)
            bits[word] = sign
            if masked:
                mask[word] = inside


@compiled
def unpack(bits, low, high, out, first, last):  # type: ignore[no-untyped-def]
    """Write ``high`` where a bit is set and ``low`` elsewhere, words ``first`` to ``last``."""
    for word in range(first, last):
        start = word * 32
        if start + 32 <= len(out):
            _spread(bits[word], low, high, out, start)
        else:
            for i in range(len(out) - start):
                out[start + i] = high if (bits[word] >> np.uint32(i)) & 1 else low


@compiled
def mask_(grad, mask, outside, first, last):  # type: ignore[no-untyped-def]
    """Multiply ``grad`` by ``outside`` where a bit is not set, in place."""
    for word in range(first, last):
        start = word * 32
        if start + 32 <= len(grad):
            _scale(mask[word], outside, grad, start)
        else:
            for i in range(len(grad) - start):
                if not (mask[word] >> np.uint32(i)) & 1:
                    grad[start + i] *= outside


@compiled
def signs(w, low, high, out, first, last):  # type: ignore[no-untyped-def]
    """Write ``low`` where w < 0 and ``high`` elsewhere, words ``first`` to ``last``."""
    for word in range(first, last):
        start = word * 32
        if start + 32 <= len(out):
            _spread(compare(w, start, False), low, high, out, start)
        else:
            for i in range(start, len(out)):
                out[i] = low if w[i] < 0 else high
