"""A whole product in one compiled call on the caller's thread.

Small products take microseconds, of which every array that is passed from Python costs a part.
Here they are addresses: those of the weights are in the record of ``Prepared``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, types  # type: ignore[attr-defined]

from ste_lightning.kernels.compiling import compiled, emitted, inlined
from ste_lightning.kernels.latent import lay_out_signs
from ste_lightning.kernels.lookup import multiply_lookup
from ste_lightning.kernels.native import multiply
from ste_lightning.kernels.packing import pack_rows

__all__ = ["latent_once", "linear_once"]

_PLACES = 8  # addresses and sizes of four arrays follow the plan's numbers


@emitted
def _pointer(typing: Any, address: Any) -> Any:
    """Return an address as a pointer."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], ir.IntType(8).as_pointer())

    return types.voidptr(types.int64), code


@inlined
def _bytes(record, which):  # type: ignore[no-untyped-def]
    place = len(record) - _PLACES + 2 * which
    return carray(_pointer(record[place]), (record[place + 1],), np.uint8)


@inlined
def _integers(record, which):  # type: ignore[no-untyped-def]
    place = len(record) - _PLACES + 2 * which
    return carray(_pointer(record[place]), (record[place + 1],), np.int32)


@inlined
def _floats(address, count):  # type: ignore[no-untyped-def]
    return carray(_pointer(address), (count,), np.float32)


@inlined
def _multiply_rows(record, panels, floats, scale, shift, shifts, results, rows):  # type: ignore[no-untyped-def]
    fmt, outputs, size = record[0], record[4], record[7]
    bits = np.empty((rows + 7) * size + 16, np.uint8)
    sums = np.empty(rows if record[12] != 0 else 0, np.int32)
    pack_rows(record, floats, scale, shift, bits, sums, 0, rows)
    columns = _integers(record, 1)
    scales = _floats(record[len(record) - _PLACES + 4], outputs)
    padding = np.zeros(outputs, np.float32)
    width = 32 if fmt >= 2 else 64
    end = (outputs + width - 1) // width
    if fmt == 0:
        zero = np.zeros(1, np.int64)
        whole = np.full(1, size)
        multiply_lookup(
            *(record, bits, 0, sums, zero, size, zero, whole, 1, np.zeros(1, np.int32), zero),
            *(panels, columns, padding, scales, shifts, results, 0, rows, 0, end),
        )
    else:
        multiply(
            *(record, bits, 0, sums, panels, columns, padding, scales, shifts, results),
            *(0, rows, 0, end),
        )


@compiled
def linear_once(record, x, factor, offset, thresholds, out, rows):  # type: ignore[no-untyped-def]
    """Quantize rows of floats to one bit and multiply them with all outputs.

    Args: the record of ``Prepared``; addresses of ``x``, of factor and offset of the thresholds
    (of which there are ``thresholds``, none or one per channel) and of ``out``; number of rows.
    """
    outputs = record[4]
    floats = _floats(x, rows * record[6])
    scale, shift = _floats(factor, thresholds), _floats(offset, thresholds)
    shifts = _floats(record[len(record) - _PLACES + 6], outputs)
    results = _floats(out, rows * outputs)
    _multiply_rows(record, _bytes(record, 0), floats, scale, shift, shifts, results, rows)


@compiled
def latent_once(record, layout, lanes, weight, x, bias, out, rows):  # type: ignore[no-untyped-def]
    """Multiply the signs of rows of floats with those of latent weights.

    Args: the record of ``Prepared`` whose panels are to be made here; its layout's width and
    bytes per unit; ``lanes`` of a panel's channels; addresses of ``weight``, ``x``, ``bias`` (0 for
    none) and ``out``; number of rows.
    """
    outputs, channels = record[4], record[6]
    room = np.zeros(record[10] + 64 + 128, np.uint8)  # as `aligned` does
    start = -room.ctypes.data % 64
    panels = room[start : start + record[10]]
    weights = _floats(weight, outputs * channels)
    sums = np.empty(outputs, np.int64)
    lay_out_signs(
        *(weights, outputs, 1, channels, record[8], layout[0], layout[1], lanes),
        *(panels, 0, sums, 0, 0, outputs),
    )
    shifts = _floats(record[len(record) - _PLACES + 6] if bias == 0 else bias, outputs)
    none = np.empty(0, np.float32)
    results = _floats(out, rows * outputs)
    _multiply_rows(record, panels, _floats(x, rows * channels), none, none, shifts, results, rows)
