"""Integer sums as the bytes that the next layer reads, by QLinearConv's own arithmetic.

QLinearConv adds an int32 bias to a sum of whole numbers, multiplies with a float32 per output,
rounds halves to even, and clips to 0..255. Whole multiples of the weights make the bias finer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ste_lightning.deploy.export.even_levels import Even
from ste_lightning.deploy.fusion.requantize import Emission

__all__ = ["Requantized", "Sums", "of_line", "of_thresholds"]

Floats = NDArray[np.float64]
_WHOLE = 1 << 24  # floats hold all integers up to there
_SLOPES = (0.5, 0.3, 0.7, 0.1, 0.9)  # of the range in which they may be
_MULTIPLES = 8


@dataclass(frozen=True)
class Sums:
    """Sums of bytes: unit k - shift, for a sum k of levels.

    Attributes:
        unit: bytes of one level.
        shift: per output, ``unit`` times the sum of weights that the byte 0 stands for.
        bound: on the size of k.
        largest_weight, largest_byte: their sizes.
    """

    unit: float
    shift: Floats
    bound: float
    largest_weight: float
    largest_byte: float

    @property
    def most(self) -> int:
        """The largest multiple of the weights.

        They stay int8, sums whole floats, and pairs of products 16 bits where they can: so do
        processors add them that have no VNNI.
        """
        pairs = ((1 << 14) - 1) / max(self.largest_weight * self.largest_byte, 1)
        whole = _WHOLE / 4 / max(self.bound * self.unit, 1)
        return max(int(min(127 / max(self.largest_weight, 1), pairs, whole)), 1)


@dataclass(frozen=True)
class Requantized:
    """The byte of a sum of bytes x is clip(round(scale (multiple x + bias)), 0, 255), per output.

    Attributes:
        multiple: of the weights; negative where bytes fall.
        bias: whole numbers.
        scale: positive.
    """

    multiple: NDArray[np.int32]
    bias: NDArray[np.int32]
    scale: NDArray[np.float32]


def of_thresholds(found: Emission, sums: Sums) -> Requantized | None:
    """Return what gives every code of sums that are compared with thresholds, if there is such.

    Of a single threshold the bytes are 0 and 255, else they are the codes.
    """
    s = np.where(found.falling, -1, 1)
    high = np.where(found.falling, 1 - found.least, found.least)  # the least u = s k of each code
    high = np.clip(high, -sums.bound, sums.bound + 1)
    if len(high) == 1:
        bias = 1 - sums.most * sums.unit * (high[0] - 0.5) + sums.most * s * sums.shift
        return _whole(sums.most * s, np.floor(bias), np.full(len(s), 256.0))
    j = np.arange(1, len(high) + 1)[:, None]
    under = np.where(high <= -sums.bound, -np.inf, high - 1)
    above = np.where(high > sums.bound, np.inf, high)
    least, most = _slopes(under, above)
    left, (multiple, bias, scale) = least <= most, np.zeros((3, len(s)))
    for m in range(sums.most, max(sums.most - _MULTIPLES, 0), -1):
        for part in _SLOPES:
            slope = least + part * (most - least)
            first, last = (under - slope * j).max(0), (above - slope * j).min(0)
            first = np.where(np.isinf(first), last - 1, first)
            last = np.where(np.isinf(last), first + 1, last)
            size = m * sums.unit
            b = np.round(m * s * sums.shift - size * ((first + last + slope) / 2))
            a = (1 / (slope * size)).astype(np.float32)
            at = size * high + b - m * s * sums.shift  # whole, so exact
            codes = [np.round(x.astype(np.float32) * a) for x in (at, at - size)]
            right = (codes[0] >= j) | (high > sums.bound)
            right &= (codes[1] < j) | (high <= -sums.bound)
            new = left & right.all(0)
            multiple[new], bias[new], scale[new] = m * s[new], b[new], a[new]
            left &= ~new
            if (multiple != 0).all():
                return _whole(multiple, bias, scale)
    return None


def _slopes(under: Floats, above: Floats) -> tuple[Floats, Floats]:
    """Return between which u per code a line passes between the ends for every code."""
    j = np.arange(len(under), dtype=np.float64)
    between = (j[None] - j[:, None])[..., None]
    with np.errstate(invalid="ignore", divide="ignore"):
        low = np.where(between > 0, (under[None] - above[:, None]) / between, -np.inf)
        high = np.where(between > 0, (above[None] - under[:, None]) / between, np.inf)
    least = np.maximum(np.nan_to_num(low, nan=-np.inf).max((0, 1)), 1e-3)
    most = np.nan_to_num(high, nan=np.inf, posinf=np.inf).min((0, 1))
    return least, np.where(np.isinf(most), least + 1, most)


def of_line(even: Even, factor: Floats, bias: Floats, sums: Sums) -> Requantized | None:
    """Return what rounds ``factor * k + bias`` as a quantizer does, but for its bias.

    That is off by at most half a sum of bytes, so that codes of results next to a tie may differ
    by one. ``None`` where the bias is too large for int32.
    """
    s, per_sum = np.sign(factor), np.abs(factor) / even.step
    offset = (bias - even.before) / even.step + even.inside + even.zero
    multiple = sums.most * s
    scale = np.where(s == 0, 1.0, per_sum / (sums.most * sums.unit))
    return _whole(multiple, np.round(offset / scale + multiple * sums.shift), scale)


def _whole(multiple: Floats, bias: Floats, scale: Floats) -> Requantized | None:
    if bool((np.abs(bias) >= 1 << 30).any()):
        return None
    return Requantized(multiple.astype(np.int32), bias.astype(np.int32), scale.astype(np.float32))
