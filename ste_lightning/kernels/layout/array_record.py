"""Integers and arrays as one array of integers, for compiled code."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["record_of"]


def record_of(numbers: Iterable[int], arrays: Iterable[NDArray[Any]]) -> NDArray[np.int64]:
    """Return numbers, then address and length of each array, which must outlive the record."""
    places = [number for array in arrays for number in (array.ctypes.data, array.size)]
    return np.array([*numbers, *places], np.int64)
