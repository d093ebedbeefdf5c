"""Images stored pixel by pixel (NHWC), copied to images stored channel by channel (NCHW)."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from ste_lightning.kernels.addressed import FLOATS, SIZE, addressed, carray
from ste_lightning.kernels.compiling import emitted

__all__ = ["to_planar"]

_EIGHT = ir.VectorType(ir.FloatType(), 8)
_ARRAY = types.Array(types.float32, 1, "C")


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
def _transpose(
    typing: Any, x: Any, at: Any, stride: Any, out: Any, to: Any, out_stride: Any
) -> Any:
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


@addressed(FLOATS, FLOATS, SIZE, SIZE, SIZE)
def to_planar(x_, out_, images, pixels, channels):  # type: ignore[no-untyped-def]
    """Copy (images, pixels, channels) to (images, channels, pixels)."""
    size = images * pixels * channels
    x, out = carray(x_, (size,)), carray(out_, (size,))
    whole_channels, whole_pixels = channels // 8 * 8, pixels // 8 * 8
    for image in range(images):
        start = image * pixels * channels
        for c in range(0, whole_channels, 8):
            for p in range(0, whole_pixels, 8):
                at, to = start + p * channels + c, start + c * pixels + p
                _transpose(x, at, channels, out, to, pixels)
            for p in range(whole_pixels, pixels):
                for k in range(c, c + 8):
                    out[start + k * pixels + p] = x[start + p * channels + k]
        for c in range(whole_channels, channels):
            for p in range(pixels):
                out[start + c * pixels + p] = x[start + p * channels + c]
