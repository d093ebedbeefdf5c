"""Binary weights laid out for a product straight from the latent weights, at every step anew."""

from __future__ import annotations

import functools
import threading
from dataclasses import replace
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numpy.typing import NDArray
from torch import Tensor

from ste_lightning.kernels.jit.c_functions import BYTES, FLOATS, INTEGERS, SIZE, addressed, carray
from ste_lightning.kernels.jit.compiling import emitted
from ste_lightning.kernels.jit.simd import compare
from ste_lightning.kernels.jit.threads import share
from ste_lightning.kernels.layout import integer_codes
from ste_lightning.kernels.layout.integer_codes import SIGNS, Codes
from ste_lightning.kernels.layout.packed_weights import Prepared
from ste_lightning.kernels.layout.weight_tiles import LAYOUTS, aligned, lane_order
from ste_lightning.kernels.pack.latent_shapes import channels_last, empty_prepared

__all__ = ["lanes_of", "lay_out_signs", "prepare_signs"]


@functools.cache
def lanes_of(format: str) -> NDArray[np.int64]:
    """Return the lane of each channel of a panel."""
    return np.argsort(lane_order(LAYOUTS[format]))


@emitted
def _popcount(typing: Any, word: Any) -> Any:
    """Return how many bits are set."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.zext(builder.ctpop(args[0]), ir.IntType(64))

    return types.int64(types.uint32), code


@addressed(FLOATS, *[SIZE] * 6, INTEGERS, BYTES, SIZE, INTEGERS, SIZE, SIZE, SIZE)
def lay_out_signs(  # type: ignore[no-untyped-def]
    w_, outputs, taps, channels, units, width, unit, lanes_, out_, start, sums_, at, first, last
):
    """Write the signs of outputs ``first`` to ``last`` of one group to their panels' lanes."""
    w = carray(w_, ((at + outputs) * taps * channels,))
    sums, lanes = carray(sums_, ((at + outputs) * taps,)), carray(lanes_, (width,))
    stride = width * unit
    out = carray(out_, (start + (outputs + width - 1) // width * units * taps * stride,))
    whole = channels // 32 * 32
    for o in range(first, last):
        place = start + o // width * units * taps * stride + lanes[o % width] * unit
        for t in range(taps):
            source = ((at + o) * taps + t) * channels
            total = 0
            to = place + t * units * stride
            for c in range(0, channels, 32):
                word = np.uint32(0)
                if c < whole:
                    word = compare(w, source + c, False)
                else:
                    for i in range(channels - c):
                        if not (w[source + c + i] < 0):
                            word |= np.uint32(1) << np.uint32(i)
                total += _popcount(word)
                for byte in range(min(4, (channels - c + 7) // 8 if unit == 1 else 4)):
                    octet = np.uint8((word >> np.uint32(8 * byte)) & np.uint32(255))
                    if unit == 1:
                        out[to] = octet
                        to += stride
                    else:
                        out[to + byte] = octet
                if unit != 1:
                    to += stride
            sums[(at + o) * taps + t] = total


class _Rooms(threading.local):
    """Prepared weights of each thread, whose panels are written anew at every call."""

    def __init__(self) -> None:
        self.rooms: dict[Any, tuple[Prepared, NDArray[np.int64]]] = {}

    def of(self, *shape: Any) -> tuple[Prepared, NDArray[np.int64]]:
        """Return weights of a shape, all panels zero at first, and room for the taps' sums."""
        found = self.rooms.get(shape)
        if found is None:
            if len(self.rooms) >= _ROOMS:
                self.rooms.clear()
            format, inputs, *sizes = shape
            empty = empty_prepared(format, inputs, SIGNS, *sizes)
            room = replace(empty, panels=aligned(len(empty.panels)), cache={})
            found = self.rooms[shape] = room, np.empty(room.padding.size, np.int64)
        return found


_ROOMS = 64  # shapes of layers that a thread keeps room for: bits, a 32nd of their weights
_rooms = _Rooms()


def prepare_signs(
    weight: Tensor, inputs: Codes, *, groups: int = 1, pad_value: float | None = None, format: str
) -> Prepared:
    """Return what :func:`~ste_lightning.kernels.prepare` makes of sign(weight), much faster.

    What it returns lasts until this thread calls it again for weights of this shape.

    Args:
        weight: latent weights (outputs, channels per group, *kernel), float32, on the CPU.
        inputs: the codes of the inputs that will come.
        groups, pad_value: as in :func:`~ste_lightning.kernels.prepare`.
        format: a name of :data:`~ste_lightning.kernels.layout.weight_tiles.LAYOUTS`.
    """
    all_outputs, channels = weight.shape[:2]
    outputs = all_outputs // groups
    taps = weight[0, 0].numel() if weight.dim() > 2 and weight.numel() else 1
    room, sums = _rooms.of(format, inputs, groups, outputs, taps, channels)
    units, size, layout = room.units // taps, len(room.panels) // groups, room.layout
    rows = channels_last(weight)
    lanes = lanes_of(format)
    where = (outputs, taps, channels, units, layout.width, layout.unit, lanes.ctypes.data)
    source, panels, totals = rows.data_ptr(), room.panels.ctypes.data, sums.ctypes.data
    least = 1 + (1 << 18) // max(taps * channels, 1)
    for group in range(groups):

        def part(first: int, last: int, group: int = group) -> None:
            target = (panels, group * size, totals, group * outputs)
            lay_out_signs(source, *where, *target, first, last)

        share(part, outputs, least)
    if inputs == SIGNS and pad_value is None:
        return room  # the constant of the sums cancels
    tap_sums = sums.reshape(all_outputs, taps)
    padding = room.padding
    if pad_value is not None and pad_value != inputs.offset:
        values = 2 * tap_sums - channels
        padding = ((pad_value - inputs.offset) * values.T).astype(np.float32)
    fixed = room.coefficients
    if inputs != SIGNS:
        fixed = integer_codes.coefficients(inputs, SIGNS, taps * channels, tap_sums.sum(axis=1))
    return replace(room, coefficients=fixed, padding=padding, cache={})
