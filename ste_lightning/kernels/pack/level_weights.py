"""Weights of several bits laid out straight from the latent weights, at every step anew."""

from __future__ import annotations

import math
import threading
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ste_lightning.kernels.jit.arrays import as_int16, as_int32, zeros
from ste_lightning.kernels.jit.c_functions import (
    BYTES,
    FLOAT,
    FLOATS,
    INTEGERS,
    SIZE,
    addressed,
    carray,
)
from ste_lightning.kernels.jit.cpu_features import may_use_tiles, vnni_bits
from ste_lightning.kernels.jit.simd import copy
from ste_lightning.kernels.jit.simd_rounding import levels_32, sum_32
from ste_lightning.kernels.jit.threads import share
from ste_lightning.kernels.layout import integer_codes
from ste_lightning.kernels.layout.int8_weights import fitting
from ste_lightning.kernels.layout.integer_codes import Codes
from ste_lightning.kernels.layout.packed_weights import Prepared
from ste_lightning.kernels.layout.weight_tiles import aligned
from ste_lightning.kernels.pack.latent_shapes import channels_last, empty_prepared

__all__ = ["prepare_levels"]

_LEAST = 1 << 18  # weights worth a thread of their own
_MOST = 1 << 26  # bytes of panels that a thread keeps


@addressed(
    *(FLOATS, FLOATS, FLOAT, FLOAT, SIZE, SIZE, SIZE, SIZE, SIZE, BYTES, INTEGERS, SIZE, SIZE),
    returns=SIZE,
)
def lay_out_levels(  # type: ignore[no-untyped-def]
    w_, steps_, low, high, outputs, taps, channels, units, size, out_, sums_, first, last
):
    """Write eights of outputs, ``first`` to ``last``, to their panels, and their sums per tap.

    Eights begin anew in every group. Args: ``steps`` of all outputs; ``outputs`` of a group;
    ``units`` of a tap, of ``size`` channels (2 or 4).

    Returns whether some weights are not numbers.
    """
    eights = (outputs + 7) // 8
    end = (last // eights * outputs + last % eights * 8) * taps
    w, sums = carray(w_, (end * channels,)), carray(sums_, (end,))
    steps = carray(steps_, (end // max(taps, 1),))
    panel = 16 * taps * units  # units of sixteen outputs
    group = (outputs + 31) // 32 * 2 * panel
    out = carray(out_, (((last - 1) // eights + 1) * group * size,))
    fours, twos = as_int32(out), as_int16(out)
    whole, pitch = channels // 32 * 32, (units * size + 31) // 32 * 32
    part, rows = zeros(32, np.float32), zeros(8 * pitch, np.uint8)
    rows_of_fours, rows_of_twos = as_int32(rows), as_int16(rows)
    zero, strange = np.float32(0), np.uint64(0)
    for eight in range(first, last):
        lane = eight % eights * 8
        o = eight // eights * outputs + lane
        at = eight // eights * group + lane // 16 * panel + lane % 16
        for t in range(taps):
            for r in range(min(8, outputs - lane)):
                source, row = ((o + r) * taps + t) * channels, r * pitch
                total, s = 0, steps[o + r]
                for c in range(0, whole, 32):
                    strange |= levels_32(
                        *(w, source + c, s, zero, low, high, low, high, zero, rows, row + c)
                    )
                    total += sum_32(rows, row + c)
                if whole < channels:
                    copy(w, source + whole, part, 0, channels - whole)
                    strange |= levels_32(
                        *(part, 0, s, zero, low, high, low, high, zero, rows, row + whole)
                    )
                    total += sum_32(rows, row + whole)
                sums[(o + r) * taps + t] = total
            for u in range(units):
                for r in range(8):
                    if size == 4:
                        fours[at + r] = rows_of_fours[r * (pitch // 4) + u]
                    else:
                        twos[at + r] = rows_of_twos[r * (pitch // 2) + u]
                at += 16
    return strange >> np.uint64(32) != 0


class _Room(threading.local):
    def __init__(self) -> None:
        self.octets = np.empty(0, np.uint8)

    def of(self, size: int) -> NDArray[np.uint8]:
        """Return bytes that last until this thread's next call; all but their values is as of
        :func:`~.panels.aligned`.
        """
        if size > _MOST:
            return aligned(size)
        if len(self.octets) < size:
            self.octets = aligned(size)
        return self.octets[:size]


_room = _Room()


def prepare_levels(
    weight: Tensor,
    steps: NDArray[np.float32],
    levels: tuple[float, float],
    inputs: Codes,
    *,
    scale: NDArray[np.float32],
    shift: Tensor | None,
    groups: int = 1,
    pad_value: float | None = None,
) -> Prepared | None:
    """Return what :func:`~ste_lightning.kernels.prepare` makes of round(clip(weight / s, ...)).

    What it returns lasts until this thread calls it again.

    Args:
        weight: latent weights (outputs, channels per group, *kernel), float32, on the CPU.
        steps: s per output.
        levels: the lowest, at most 0, and the highest, at least 0; signed bytes must hold them.
        inputs: the codes of the inputs that will come.
        scale, shift: of the integer product, per output; the shift's default is 0.
        groups, pad_value: as in :func:`~ste_lightning.kernels.prepare`.

    Returns:
        Weights in a format of bytes; ``None`` if one is not a number.
    """
    low, high = levels
    kind = Codes(int(high - low).bit_length(), 1, int(low))
    all_outputs, channels = weight.shape[:2]
    taps = math.prod(weight.shape[2:])
    format = "int8_tiles" if may_use_tiles() else "int8" if vnni_bits() else "digits"
    format = fitting(format, inputs, kind)
    sizes = (groups, all_outputs // groups, taps, channels)
    empty = empty_prepared(format, inputs, kind, *sizes)
    layout, units = empty.layout, empty.units // taps
    panels = _room.of(len(empty.panels))
    sums = np.empty((all_outputs, taps), np.int64)
    rows = channels_last(weight)
    where = (empty.outputs, taps, channels, units, layout.unit)
    source, to, totals = rows.data_ptr(), panels.ctypes.data, sums.ctypes.data
    each = steps.ctypes.data
    strange: list[int] = []

    def part(first: int, last: int) -> None:
        strange.append(lay_out_levels(source, each, *levels, *where, to, totals, first, last))

    eights = groups * -(-empty.outputs // 8)
    share(part, eights, 1 + _LEAST // max(8 * taps * channels, 1))
    if any(strange):
        return None
    padding = empty.padding
    if pad_value is not None and pad_value != inputs.offset:
        padding = ((pad_value - inputs.offset) * sums.T).astype(np.float32)
    bytes_ = Codes(kind.bits, 1, 0)
    return replace(
        empty,
        panels=panels,
        coefficients=integer_codes.coefficients(
            inputs, bytes_, taps * channels, sums.sum(axis=1), from_codes=True
        ),
        padding=padding,
        scale=scale,
        shift=empty.shift if shift is None else shift.detach().numpy(),
        cache={},
    )
