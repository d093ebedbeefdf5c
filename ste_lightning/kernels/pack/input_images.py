"""Inputs packed as the products at a site read them, as compiled code.

All functions take ranges of images, so that threads can share the work.
"""

from __future__ import annotations

import numpy as np

from ste_lightning.kernels.gemm.lut import pad_lines
from ste_lightning.kernels.jit.arrays import empty
from ste_lightning.kernels.jit.c_functions import (
    BYTES,
    FLAG,
    FLOATS,
    INTEGERS,
    SIZE,
    SUMS,
    carray,
    on_demand,
)
from ste_lightning.kernels.jit.compiling import nested
from ste_lightning.kernels.layout.call_record import ARRAYS, NUMBERS
from ste_lightning.kernels.layout.plan import (
    PLAN_CHANNELS,
    PLAN_GROUPS,
    PLAN_INPUT_PLANES,
    PLAN_ROW_BYTES,
    PLAN_ROW_SLOPE,
)
from ste_lightning.kernels.layout.read_record import integers_of, opened, record_at
from ste_lightning.kernels.pack.input_bits import pack_codes, pack_planar, pack_rows

__all__ = ["pack_codes_of", "pack_floats", "packed"]

_PIXELS, _IMAGE, _LINE = (NUMBERS[name] for name in ("pixels", "image", "line"))
_LINES = ARRAYS["lines"]


@nested
def _pack(record, x, planar, scale, shift, out, sums, images):  # type: ignore[no-untyped-def]
    pixels, image, lines = record[_PIXELS], record[_IMAGE], integers_of(record, _LINES)
    dense = images * pixels * record[PLAN_GROUPS] * record[PLAN_ROW_BYTES]
    bits = out
    if len(lines) > 0:
        bits = empty(dense + 16, np.uint8)
    if planar:
        if record[PLAN_CHANNELS] < 8 * record[PLAN_ROW_BYTES]:
            bits[:dense] = 0
        pack_planar(record, x, pixels, scale, shift, bits, 0, images)
    else:
        pack_rows(record, x, scale, shift, bits, sums, 0, images * pixels)
    if len(lines) > 0:
        out[: images * image] = 0
        pad_lines(bits, images, lines, record[_LINE], image, out)


@on_demand(INTEGERS, FLOATS, FLAG, FLOATS, FLOATS, SIZE, BYTES, SUMS, SIZE, SIZE)
def pack_floats(record_, x_, planar, scale_, shift_, thresholds, out_, sums_, first, last):  # type: ignore[no-untyped-def]
    """Pack the signs or steps of images ``first`` to ``last`` as products read them.

    Args: ``x`` float32 with its channels first if ``planar``, else last; ``scale`` and ``shift``
    of the thresholds, of which there are none or one per channel.
    """
    record = record_at(record_)
    groups, pixels = record[PLAN_GROUPS], record[_PIXELS]
    x = opened(x_)[first * pixels * groups * record[PLAN_CHANNELS] :]
    scale, shift = carray(scale_, (thresholds,)), carray(shift_, (thresholds,))
    out = opened(out_)[first * record[_IMAGE] :]
    sums = opened(sums_)[first * pixels * groups :]
    if record[PLAN_ROW_SLOPE] == 0:
        sums = sums[:0]
    _pack(record, x, planar, scale, shift, out, sums, last - first)


@nested
def packed(record, x, planar, scale_, shift_, thresholds, images):  # type: ignore[no-untyped-def]
    """Return packed images and their sums, in memory that products may read behind."""
    bits = empty((images + 7) * record[_IMAGE] + 16, np.uint8)
    count = images * record[_PIXELS] * record[PLAN_GROUPS]
    sums = empty(count if record[PLAN_ROW_SLOPE] != 0 else 0, np.int32)
    scale, shift = carray(scale_, (thresholds,)), carray(shift_, (thresholds,))
    _pack(record, x, planar, scale, shift, bits, sums, images)
    return bits, sums


@on_demand(INTEGERS, BYTES, BYTES, SIZE, SUMS, SIZE, SIZE)
def pack_codes_of(record_, codes_, out_, plane, sums_, first, last):  # type: ignore[no-untyped-def]
    """As :func:`pack_floats`, of codes with their channels last: a plane for each of their bits."""
    record = record_at(record_)
    pixels, image, lines = record[_PIXELS], record[_IMAGE], integers_of(record, _LINES)
    groups, channels, rows = record[PLAN_GROUPS], record[PLAN_CHANNELS], (last - first) * pixels
    codes = opened(codes_)[first * pixels * groups * channels :]
    for bit in range(record[PLAN_INPUT_PLANES]):
        out = opened(out_)[bit * plane + first * image :]
        bits = out
        if len(lines) > 0:
            bits = empty(rows * groups * record[PLAN_ROW_BYTES] + 16, np.uint8)
        pack_codes(record, codes, bit, bits, 0, 0, rows)
        if len(lines) > 0:
            out[: (last - first) * image] = 0
            pad_lines(bits, last - first, lines, record[_LINE], image, out)
    if record[PLAN_ROW_SLOPE] != 0:
        sums = opened(sums_)[first * pixels * groups :]
        for row in range(rows * groups):
            total = np.int32(0)
            for c in range(row * channels, (row + 1) * channels):
                total += np.int32(codes[c])
            sums[row] = total
