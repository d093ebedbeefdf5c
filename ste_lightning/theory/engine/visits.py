"""What happens to the signs in a step, counted: flips, first hit, escapes and returns."""

from __future__ import annotations

import numpy as np

from ste_lightning.kernels.jit.compiling import inlined

__all__ = [
    "COUNTS",
    "EVALUATIONS",
    "FIRST",
    "FLIPS",
    "FROZEN",
    "VISITS",
    "distance",
    "flip",
    "quantize",
    "visit",
]

COUNTS = (
    "first_hit",
    "visits",
    "escapes",
    "returns",
    "time_away",
    "longest_return",
    "flips",
    "evaluations",
    "frozen_at",
)
"""Columns of a trial's counts, by the names of :class:`..record.Record`."""

FIRST, VISITS, _ESCAPES, _RETURNS, _AWAY, _LONGEST, FLIPS, EVALUATIONS, FROZEN = range(len(COUNTS))

_ZERO = np.float32(0.0)
_ONE = np.float32(1.0)


@inlined
def quantize(x, w):  # type: ignore[no-untyped-def]
    """Write sign(x), with sign(0) = +1, to ``w``."""
    for k in range(len(x)):
        w[k] = _ONE if x[k] >= _ZERO else -_ONE


@inlined
def distance(w, teacher):  # type: ignore[no-untyped-def]
    """Return the number of wrong signs."""
    count = 0
    for k in range(len(w)):
        count += 1 if w[k] != teacher[k] else 0
    return count


@inlined
def flip(latent, w, teacher, since, sign_sum, now):  # type: ignore[no-untyped-def]
    """Take the signs of iterate ``now``, add up those that end; return the distance's change."""
    change = 0
    for k in range(len(w)):
        # Without branches: which signs flip cannot be foreseen.
        flips = (latent[k] >= _ZERO) != (w[k] > _ZERO)
        age = now - since[k]
        sign_sum[k] += (age if w[k] > _ZERO else -age) if flips else 0
        since[k] = now if flips else since[k]
        change += (1 if w[k] == teacher[k] else -1) if flips else 0
        w[k] = -w[k] if flips else w[k]
    return change


@inlined
def visit(row, histogram, before, away, left, now, burn_in):  # type: ignore[no-untyped-def]
    """Count an escape or a return of iterate ``now``; return when the teacher was last left."""
    if before == 0 and away > 0:
        left = now
        if now > burn_in:
            row[_ESCAPES] += 1
    elif away == 0 and before > 0:
        if row[FIRST] < 0:
            row[FIRST] = now
        if left >= 0 and left > burn_in:
            length = now - left
            row[_RETURNS] += 1
            row[_AWAY] += length
            row[_LONGEST] = max(row[_LONGEST], length)
            histogram[min(length, len(histogram)) - 1] += 1
    return left
