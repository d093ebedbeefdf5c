"""The integers that describe prepared weights to compiled code."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ste_lightning.kernels.weights import Prepared

__all__ = ["PLAN", "plan_of", "record_of"]

PLAN = 18  # entries


def plan_of(w: Prepared) -> NDArray[np.int64]:
    """Return one array instead of a dozen arguments, which each cost time at every call.

    Entries: 0 format, 1 input planes, 2 weight planes, 3 groups, 4 outputs per group, 5 taps,
    6 channels per group, 7 bytes of a packed input row and group, 8 units of an output's
    weights, 9 bytes of a weight plane, 10 bytes of a group's panels, 11 slope, 12 row slope,
    13 whether binary inputs are steps (x > 0) rather than signs (x >= 0), 14 units that one call
    of a micro-kernel may sum, 15 bits of the weights in a plane, 16 bytes of a panel and plane,
    17 places from one row of results to the next.
    """
    group = len(w.panels) // w.groups
    return np.array(
        [
            w.layout.number,
            w.input_planes,
            w.weight_planes,
            w.groups,
            w.outputs,
            w.taps,
            w.channels,
            w.row_bytes,
            w.units,
            group // w.weight_planes,
            group,
            w.coefficients.slope,
            w.coefficients.row_slope,
            not w.inputs.signs,
            w.block,
            w.layout.digit,
            w.layout.width * w.units * w.layout.unit,
            w.groups * w.outputs,
        ],
        np.int64,
    )


def record_of(numbers: Iterable[int], arrays: Iterable[NDArray[Any]]) -> NDArray[np.int64]:
    """Return numbers, then address and length of each array, which must outlive the record."""
    places = [number for array in arrays for number in (array.ctypes.data, array.size)]
    return np.array([*numbers, *places], np.int64)
