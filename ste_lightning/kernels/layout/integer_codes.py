"""Every product of small integers follows from popcount(x xor w).

Operands are stored as unsigned codes: a value is ``step * code + offset``. Signs are
``2 c - 1``, steps ``c``, ternary weights ``c - 1`` with c in {0, 1, 2}, k-bit levels
``c + lowest``. With the sums R = sum_k c_x and C = sum_k c_w, and with X = sum over bit planes
of 2^(i+j) popcount(x_i xor w_j),

    sum_k c_x c_w = ((2^b_w - 1) R + (2^b_x - 1) C - X) / 2,

since a and b = (a + b - (a xor b)) / 2 for bits. So the product of the values is
``(slope X + row_slope R + column) / 2`` with the integers below.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ste_lightning.errors import require

__all__ = ["SIGNS", "STEPS", "Codes", "Coefficients", "coefficients"]


@dataclass(frozen=True)
class Codes:
    """How unsigned codes stand for integers: ``step * code + offset``, code < 2^bits.

    Raises:
        ConfigurationError: for a bit width outside 1..8 or a step below 1.
    """

    bits: int
    step: int
    offset: int

    def __post_init__(self) -> None:
        require(1 <= self.bits <= 8, "bits", self.bits, "use 1 to 8")
        require(self.step >= 1, "step", self.step, "use a positive integer")

    @property
    def signs(self) -> bool:
        """Whether the values are -1 and +1."""
        return (self.bits, self.step, self.offset) == (1, 2, -1)


SIGNS = Codes(1, 2, -1)
STEPS = Codes(1, 1, 0)


@dataclass(frozen=True)
class Coefficients:
    """``2 y[m, n] = slope X[m, n] + row_slope R[m] + columns[n]``."""

    slope: int
    row_slope: int
    columns: NDArray[np.int32]


def coefficients(
    inputs: Codes,
    weights: Codes,
    length: int,
    column_sums: NDArray[np.int64],
    from_codes: bool = False,
) -> Coefficients:
    """Return the coefficients of a product over ``length`` terms.

    Args:
        inputs, weights: the two operands' codes.
        length: number of terms of each sum.
        column_sums: C, the sum of each output's weight codes.
        from_codes: whether X is sum_k c_x c_w itself instead of counted bits.
    """
    both = inputs.step * weights.step
    columns = 2 * inputs.offset * weights.step * column_sums
    columns = columns + 2 * length * inputs.offset * weights.offset
    row_slope = 2 * inputs.step * weights.offset
    if not from_codes:
        columns = columns + both * (2**inputs.bits - 1) * column_sums
        row_slope += both * (2**weights.bits - 1)
    limit = np.iinfo(np.int32).max
    largest = 2 * length * both * (2**inputs.bits) * (2**weights.bits)
    require(largest < limit, "length", length, "its integer sums would overflow 32 bits")
    return Coefficients(
        slope=2 * both if from_codes else -both,
        row_slope=row_slope,
        columns=columns.astype(np.int32),
    )
