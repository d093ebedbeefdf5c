"""Vector instructions that compiled code needs for packing: comparisons to bits, wide stores."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from ste_lightning.kernels.jit.compiling import emitted
from ste_lightning.kernels.jit.llvm import load, pointer_to, splat, widened

__all__ = [
    "compare",
    "compare_affine",
    "copy",
    "copy_8",
    "copy_16",
    "copy_32",
    "load_64",
    "plane_of",
    "sign_affine_planes",
    "sign_planes",
    "step_affine_planes",
    "step_planes",
    "store_16",
    "store_32",
    "store_64",
]

_FLOATS = types.Array(types.float32, 1, "C")
_BYTES = types.Array(types.uint8, 1, "C")
_VECTOR = ir.VectorType(ir.FloatType(), 32)
_HALVES = ir.VectorType(ir.IntType(16), 32)
_OCTETS = ir.VectorType(ir.IntType(8), 32)


def _above(builder: Any, values: Any, strict: Any) -> Any:
    """Return 32 bits: values > 0 if strict, else values >= 0 or NaN."""
    zero = ir.Constant(_VECTOR, None)
    greater = builder.fcmp_ordered(">", values, zero)
    least = builder.fcmp_unordered(">=", values, zero)
    word = ir.IntType(32)
    return builder.select(strict, builder.bitcast(greater, word), builder.bitcast(least, word))


@emitted
def compare(typing: Any, x: Any, start: Any, strict: Any) -> Any:
    """Return bit i = [x[start + i] >= 0 or NaN], or [x[start + i] > 0] if ``strict``.

    ``x`` holds float32 numbers, or bfloat16 numbers as 16 bits.
    """

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = pointer_to(context, builder, signature.args[0], args[0], args[1])
        if x.dtype == types.uint16:
            values = widened(builder, load(builder, pointer, _HALVES))
        else:
            values = load(builder, pointer, _VECTOR)
        return _above(builder, values, args[2])

    return types.uint32(x, types.int64, types.boolean), code


@emitted
def compare_affine(
    typing: Any, x: Any, start: Any, strict: Any, scale: Any, shift: Any, channel: Any
) -> Any:
    """As :func:`compare`, of ``scale[channel + i] * x[start + i] + shift[channel + i]``."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        x_, start_, strict_, scale_, shift_, channel_ = args
        kinds = signature.args
        values = load(builder, pointer_to(context, builder, kinds[0], x_, start_), _VECTOR)
        factor = load(builder, pointer_to(context, builder, kinds[3], scale_, channel_), _VECTOR)
        offset = load(builder, pointer_to(context, builder, kinds[4], shift_, channel_), _VECTOR)
        return _above(builder, builder.fadd(builder.fmul(values, factor), offset), strict_)

    array = types.Array(types.float32, 1, "C")
    return types.uint32(array, types.int64, types.boolean, array, array, types.int64), code


def _compare_planes(strict: bool, affine: bool) -> Any:
    """Return the comparison of 32 pixels of up to eight channels.

    It writes 32 bytes: bit c of byte i is that of :func:`compare` (:func:`compare_affine` if
    ``affine``) at channel c, pixel i, which is ``x[start + c * stride + i]``.
    """

    def compare_planes(
        typing: Any,
        x: Any,
        start: Any,
        stride: Any,
        channels: Any,
        scale: Any,
        shift: Any,
        channel: Any,
        out: Any,
    ) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            x_, start_, stride_, channels_, scale_, shift_, channel_, out_ = args
            kinds = signature.args
            first = pointer_to(context, builder, kinds[0], x_, start_)
            zero = ir.Constant(_OCTETS, None)
            cell = _cell(builder, zero)
            bit = _cell(builder, ir.Constant(ir.IntType(8), 1))
            with cgutils.for_range(builder, channels_) as loop:
                values = load(
                    builder, builder.gep(first, [builder.mul(loop.index, stride_)]), _VECTOR
                )
                if affine:
                    at = builder.add(channel_, loop.index)
                    factor = builder.load(pointer_to(context, builder, kinds[4], scale_, at))
                    offset = builder.load(pointer_to(context, builder, kinds[5], shift_, at))
                    values = builder.fmul(values, splat(builder, factor, 32))
                    values = builder.fadd(values, splat(builder, offset, 32))
                nothing = ir.Constant(_VECTOR, None)
                if strict:
                    found = builder.fcmp_ordered(">", values, nothing)
                else:
                    found = builder.fcmp_unordered(">=", values, nothing)
                current = builder.load(bit)
                chosen = builder.select(found, splat(builder, current, 32), zero)
                builder.store(builder.or_(builder.load(cell), chosen), cell)
                builder.store(builder.shl(current, ir.Constant(ir.IntType(8), 1)), bit)
            data = context.make_array(kinds[7])(context, builder, out_).data
            target = builder.bitcast(data, _OCTETS.as_pointer())
            builder.store(builder.load(cell), target).align = 1
            return context.get_dummy_value()

        index = types.int64
        return types.none(_FLOATS, index, index, index, _FLOATS, _FLOATS, index, _BYTES), code

    return emitted(compare_planes)


sign_planes = _compare_planes(strict=False, affine=False)
step_planes = _compare_planes(strict=True, affine=False)
sign_affine_planes = _compare_planes(strict=False, affine=True)
step_affine_planes = _compare_planes(strict=True, affine=True)


def _cell(builder: Any, value: Any) -> Any:

    return cgutils.alloca_once_value(builder, value)  # type: ignore[no-untyped-call]


@emitted
def plane_of(typing: Any, codes: Any, start: Any, bit: Any) -> Any:
    """Return bit i = bit ``bit`` of ``codes[start + i]``."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = pointer_to(context, builder, signature.args[0], args[0], args[1])
        values = load(builder, pointer, _OCTETS)
        one = builder.shl(ir.Constant(ir.IntType(8), 1), builder.trunc(args[2], ir.IntType(8)))
        chosen = builder.and_(values, splat(builder, one, 32))
        found = builder.icmp_unsigned("!=", chosen, ir.Constant(_OCTETS, None))
        return builder.bitcast(found, ir.IntType(32))

    return types.uint32(_BYTES, types.int64, types.int64), code


def _store(bits: int, kind: Any) -> Any:
    def store(typing: Any, out: Any, at: Any, value: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            pointer = pointer_to(context, builder, signature.args[0], args[0], args[1])
            target = builder.bitcast(pointer, ir.IntType(bits).as_pointer())
            builder.store(args[2], target).align = 1
            return context.get_dummy_value()

        return types.none(_BYTES, types.int64, kind), code

    return emitted(store)


store_16 = _store(16, types.uint16)
store_32 = _store(32, types.uint32)
store_64 = _store(64, types.uint64)


def _copy(size: int) -> Any:
    def copy(typing: Any, source: Any, at: Any, out: Any, to: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            kind = ir.VectorType(ir.IntType(8), size)
            read = pointer_to(context, builder, signature.args[0], args[0], args[1])
            written = pointer_to(context, builder, signature.args[2], args[2], args[3])
            value = load(builder, read, kind)
            builder.store(value, builder.bitcast(written, kind.as_pointer())).align = 1
            return context.get_dummy_value()

        return types.none(_BYTES, types.int64, _BYTES, types.int64), code

    return emitted(copy)


copy_8, copy_16, copy_32 = _copy(8), _copy(16), _copy(32)


@emitted
def copy(typing: Any, source: Any, at: Any, out: Any, to: Any, count: Any) -> Any:
    """Copy ``count`` elements to an array of the same type; the two do not overlap.

    An assignment of slices takes four seconds to compile: numba can say there which shapes differ.
    """

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        read = pointer_to(context, builder, signature.args[0], args[0], args[1])
        written = pointer_to(context, builder, signature.args[2], args[2], args[3])
        size = context.get_abi_sizeof(read.type.pointee)
        cgutils.raw_memcpy(builder, written, read, args[4], size)  # type: ignore[no-untyped-call]
        return context.get_dummy_value()

    index = types.int64
    return (types.none(source, index, source, index, index), code) if source == out else None


@emitted
def fill(typing: Any, out: Any, to: Any, count: Any, value: Any) -> Any:
    """Set ``count`` bytes."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        out_, to_, count_, value_ = args
        written = pointer_to(context, builder, signature.args[0], out_, to_)
        octet = builder.trunc(value_, ir.IntType(8))
        cgutils.memset(builder, written, count_, octet)  # type: ignore[no-untyped-call]
        return context.get_dummy_value()

    return types.none(_BYTES, types.int64, types.int64, types.int64), code


@emitted
def load_64(typing: Any, source: Any, at: Any) -> Any:
    """Return eight bytes."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        read = pointer_to(context, builder, signature.args[0], args[0], args[1])
        return load(builder, read, ir.IntType(64))

    return types.uint64(_BYTES, types.int64), code
