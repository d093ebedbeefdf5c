"""The thresholds of a product's sums as a table that an epilogue reads.

A table is one array of int32: a header, then rows of one number per output, which are read in
blocks of 32 and so end with 32 places nobody uses. The header is the count of thresholds, a kind
and the places of a row. Kinds 16 and 32 hold a row of that many bits for every threshold, then one
of flips: -1 for outputs whose codes fall as sums grow. Kind 0 holds a line m, n, low, high of
float32 for every output, where one will do: the code is then m (2 y) + n, bounded and truncated.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["HEADER", "LINES", "table_of"]

HEADER = 3
LINES = 0
_LANES = 32
_FEW = 3  # thresholds: comparing with so few is as fast as a line

Integers = NDArray[np.int64]
Reals = NDArray[np.float64]


def table_of(least: Integers, falling: NDArray[np.bool_], largest: int) -> NDArray[np.int32]:
    """Return the table of thresholds.

    Args:
        least: (count, outputs): a sum y has reached a threshold if it is at least that.
        falling: (outputs,): whether codes fall as sums grow: they are count - reached then.
        largest: a bound on the sums' size; below 2^15, 16 bits hold them.
    """
    count, outputs = least.shape
    stride = -(-(outputs + _LANES) // 2) * 2
    lines = _lines(least, falling, largest) if count > _FEW else None
    if lines is not None:
        rows = np.zeros((4, stride), np.float32)
        rows[:, :outputs] = lines
        header = np.array([count, LINES, stride], np.int32)
        return np.concatenate([header, rows.ravel().view(np.int32)])
    bits = 16 if largest < np.iinfo(np.int16).max else 32
    kind: Any = np.int16 if bits == 16 else np.int32
    steps = np.zeros((count, stride), kind)
    steps[:, :outputs] = np.clip(least, np.iinfo(kind).min, np.iinfo(kind).max)
    flip = np.zeros(stride, np.int32)
    flip[:outputs] = -falling.astype(np.int32)
    header = np.array([count, bits, stride], np.int32)
    return np.concatenate([header, steps.ravel().view(np.int32), flip])


def _lines(least: Integers, falling: NDArray[np.bool_], largest: int) -> NDArray[np.float32] | None:
    """Return m, n, low and high per output, or None if some output's codes are on no line.

    Code j begins (or, falling, ends) between the sums B_j - 1 and B_j: a line through the points
    (B_j - 1/2, j) with the least largest error is tried, in the arithmetic of the epilogue, at
    all of these; in between it cannot fail, since rounding keeps order.
    """
    if largest >= 1 << 23:
        return None
    b = np.sort(least, axis=0)
    b = np.where(falling, b[::-1], b)
    count = len(b)
    always = np.where(falling, b > largest, b <= -largest)
    never = np.where(falling, b <= -largest, b > largest)
    inside = ~(always | never)
    low = always.sum(0)
    high = count - never.sum(0)
    m, n = _nearest_lines(b.astype(np.float64) - 0.5, inside, falling, low)
    rows = np.stack([m / 2, n, low, high]).astype(np.float32)
    for boundary, there in zip(b, inside, strict=True):
        for sums in (boundary, boundary - 1):
            reached = (sums >= least).sum(0)
            wrong = _codes(rows, sums) != np.where(falling, count - reached, reached)
            if bool((wrong & there).any()):
                return None
    ends = _codes(rows, np.array([[-largest], [largest]]))
    first, last = np.where(falling, high, low), np.where(falling, low, high)
    return rows if bool((ends == np.stack([first, last])).all()) else None


def _codes(rows: NDArray[np.float32], sums: Integers) -> Integers:
    """Return the codes of sums (any, outputs), as an epilogue computes them."""
    m, n, low, high = rows
    values = (2 * sums).astype(np.float32) * m + n
    codes: Integers = np.minimum(np.maximum(values, low), high).astype(np.int64)
    return codes


def _nearest_lines(
    x: Reals, inside: NDArray[np.bool_], falling: NDArray[np.bool_], low: Integers
) -> tuple[Reals, Reals]:
    """Return slope and offset, per output, of the line nearest to the points (x_j, j)."""
    count = len(x)
    j = np.arange(1, count + 1, dtype=np.float64)[:, None]
    # With one point or none: a line of slope one through it, or a constant.
    first = np.where(inside, j, count + 1).min(0)
    at = np.take_along_axis(x, np.minimum(first, count).astype(np.int64)[None] - 1, axis=0)[0]
    some = inside.any(0)
    slope = np.where(some, np.where(falling, -1.0, 1.0), 0.0)
    offset = np.where(some, first - slope * at, low + 0.5)
    best = np.where(inside.sum(0) > 1, np.inf, 0.0)
    for i, k in combinations(range(count), 2):
        both = inside[i] & inside[k] & (x[i] != x[k])
        m = (k - i) / np.where(both, x[k] - x[i], 1.0)
        off = j - m * x
        upper = np.where(inside & both, off, -np.inf).max(0)
        lower = np.where(inside & both, off, np.inf).min(0)
        upper, lower = np.where(both, upper, np.inf), np.where(both, lower, 0.0)
        error = upper - lower
        better = error < best
        slope = np.where(better, m, slope)
        offset = np.where(better, (upper + lower) / 2, offset)
        best = np.minimum(best, error)
    return slope, offset
