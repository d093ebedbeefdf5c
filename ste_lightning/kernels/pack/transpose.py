"""Images stored pixel by pixel (NHWC), copied to or from those stored channel by channel (NCHW)."""

from __future__ import annotations

import math
from typing import Any

import torch
from llvmlite import ir
from numba import types
from torch import Tensor

from ste_lightning.kernels.jit.c_functions import BYTES, FLOATS, SIZE, addressed, carray
from ste_lightning.kernels.jit.compiling import emitted, inlined
from ste_lightning.kernels.jit.threads import share

__all__ = ["by_pixel", "codes_to_pixels", "to_planar", "transpose", "turn"]

_EIGHT = ir.VectorType(ir.FloatType(), 8)
_ARRAY = types.Array(types.float32, 1, "C")
_CODES = types.Array(types.uint8, 1, "C")


def _exchange(builder: Any, rows: list[Any], d: int) -> list[Any]:
    """Exchange row bit ``d`` with column bit ``d``: one of three stages of a transposition."""
    out = list(rows)
    kind = ir.VectorType(ir.IntType(32), 8)
    for i in range(8):
        if i & d == 0:
            pair = rows[i], rows[i + d]
            upper = ir.Constant(kind, [8 + k - d if k & d else k for k in range(8)])
            lower = ir.Constant(kind, [8 + k if k & d else k + d for k in range(8)])
            out[i] = builder.shuffle_vector(*pair, upper)
            out[i + d] = builder.shuffle_vector(*pair, lower)
    return out


@emitted
def transpose(typing: Any, x: Any, at: Any, stride: Any, out: Any, to: Any, out_stride: Any) -> Any:
    """Write out[to + i * out_stride + j] = x[at + j * stride + i] for i and j below 8."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        x_, at_, stride_, out_, to_, out_stride_ = args
        source = context.make_array(signature.args[0])(context, builder, x_).data
        target = context.make_array(signature.args[3])(context, builder, out_).data
        rows = []
        for _ in range(8):
            row = builder.load(builder.bitcast(builder.gep(source, [at_]), _EIGHT.as_pointer()))
            row.align = 4
            rows.append(row)
            at_ = builder.add(at_, stride_)
        for distance in (1, 2, 4):
            rows = _exchange(builder, rows, distance)
        for row in rows:
            place = builder.bitcast(builder.gep(target, [to_]), _EIGHT.as_pointer())
            builder.store(row, place).align = 4
            to_ = builder.add(to_, out_stride_)
        return context.get_dummy_value()

    return types.none(_ARRAY, types.int64, types.int64, _ARRAY, types.int64, types.int64), code


@inlined
def turn(x, start, out, place, pixels, channels):  # type: ignore[no-untyped-def]
    """Copy (pixels, channels) from ``x[start]`` to (channels, pixels) at ``out[place]``."""
    whole_channels, whole_pixels = channels // 8 * 8, pixels // 8 * 8
    for c in range(0, whole_channels, 8):
        for p in range(0, whole_pixels, 8):
            at, to = start + p * channels + c, place + c * pixels + p
            transpose(x, at, channels, out, to, pixels)
        for p in range(whole_pixels, pixels):
            for k in range(c, c + 8):
                out[place + k * pixels + p] = x[start + p * channels + k]
    for c in range(whole_channels, channels):
        for p in range(pixels):
            out[place + c * pixels + p] = x[start + p * channels + c]


@addressed(FLOATS, FLOATS, SIZE, SIZE, SIZE)
def to_planar(x_, out_, images, pixels, channels):  # type: ignore[no-untyped-def]
    """Copy (images, pixels, channels) to (images, channels, pixels)."""
    size = images * pixels * channels
    x, out = carray(x_, (size,)), carray(out_, (size,))
    for start in range(0, size, pixels * channels):
        turn(x, start, out, start, pixels, channels)


@emitted
def _transpose_bytes(
    typing: Any, x: Any, at: Any, stride: Any, out: Any, to: Any, lanes: Any
) -> Any:
    """Write out[to + j * lanes + i] = x[at + i * stride + j] for i and j below 8."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        x_, at_, stride_, out_, to_, lanes_ = args
        eight = ir.VectorType(ir.IntType(8), 8)
        source = context.make_array(signature.args[0])(context, builder, x_).data
        target = context.make_array(signature.args[3])(context, builder, out_).data

        def load(place: Any) -> Any:
            value = builder.load(builder.bitcast(place, eight.as_pointer()))
            value.align = 1
            return value

        def shuffle(a: Any, b: Any, lanes: list[int]) -> Any:
            mask = ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), lanes)
            return builder.shuffle_vector(a, b, mask)

        parts = []  # per set of rows its columns, in vectors of 16 bytes once they are mixed
        for i in range(8):
            place = builder.add(at_, builder.mul(stride_, ir.Constant(ir.IntType(64), i)))
            parts.append([load(builder.gep(source, [place]))])
        while len(parts) > 1:
            half = len(parts) // 2
            mixed = []
            for upper, lower in zip(parts[:half], parts[half:], strict=True):
                found = []
                for a, b in zip(upper, lower, strict=True):
                    size = a.type.count
                    for first in range(0, size, 8):
                        mixing = [n for k in range(first, first + 8) for n in (k, size + k)]
                        found.append(shuffle(a, b, mixing))
                mixed.append(found)
            parts = mixed
        for j in range(8):
            pair = parts[0][j // 2]
            column = shuffle(pair, pair, [*range(j % 2 * 8, j % 2 * 8 + 8)])
            place = builder.add(to_, builder.mul(lanes_, ir.Constant(ir.IntType(64), j)))
            place = builder.bitcast(builder.gep(target, [place]), eight.as_pointer())
            builder.store(column, place).align = 1
        return context.get_dummy_value()

    index = types.int64
    return types.none(_CODES, index, index, _CODES, index, index), code


@addressed(BYTES, BYTES, SIZE, SIZE, SIZE, SIZE)
def codes_to_pixels(codes_, out_, pixels, channels, first, last):  # type: ignore[no-untyped-def]
    """Copy codes (images, channels, pixels) to (images, pixels, channels), eight channels a time.

    The eights, counted over all images, are those from ``first`` to ``last``.
    """
    eights = (channels + 7) // 8
    size = ((last + eights - 1) // eights) * pixels * channels
    codes, out = carray(codes_, (size,)), carray(out_, (size,))
    for block in range(first, last):
        image, eight = block // eights, block % eights
        start, c = image * pixels * channels, 8 * eight
        whole = pixels // 8 * 8 if c + 8 <= channels else 0
        for p in range(0, whole, 8):
            _transpose_bytes(
                codes, start + c * pixels + p, pixels, out, start + p * channels + c, channels
            )
        for k in range(c, min(c + 8, channels)):
            for p in range(whole, pixels):
                out[start + p * channels + k] = codes[start + k * pixels + p]


def by_pixel(x: Tensor) -> Tensor:
    """Return images (images, channels, *size) as contiguous (images, *size, channels)."""
    last = x.movedim(1, -1)
    if x.dtype != torch.uint8 or last.is_contiguous() or not x.is_contiguous():
        return last.contiguous()
    images, channels = x.shape[:2]
    pixels = math.prod(x.shape[2:])
    out = torch.empty(images, *x.shape[2:], channels, dtype=torch.uint8)
    places = (x.data_ptr(), out.data_ptr(), pixels, channels)
    least = 1 + (1 << 14) // max(pixels, 1)
    share(lambda a, b: codes_to_pixels(*places, a, b), images * -(-channels // 8), least)
    return out
