"""Where products read and write, in arrays of integers that compiled code understands.

Passing an array from Python to compiled code costs about a microsecond, so a call passes two
addresses instead: those of the weights' record and of a place's. Either holds numbers, and address
and length of arrays.
"""

from __future__ import annotations

import functools
from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ste_lightning.errors import require
from ste_lightning.kernels.direct import runs_of_image
from ste_lightning.kernels.geometry import Geometry, index_of
from ste_lightning.kernels.plan import PLAN, record_of
from ste_lightning.kernels.weights import Prepared

__all__ = [
    "PIXEL",
    "PLACE",
    "PLACES",
    "WEIGHTS",
    "Place",
    "Site",
    "bit_site",
    "float_site",
    "place_at",
    "row_site",
]

PIXEL = Geometry((1,), (1,), ((0, 0),), (1,))  # a linear layer is a convolution of single pixels

WEIGHTS = {name: PLAN + 2 * i for i, name in enumerate(("panels", "columns", "scale", "shift"))}
POSITIONS, PIXELS, IMAGE, LINE = range(4)
_NAMES = ("extra", "index", "border", "starts", "offsets", "sizes", "lines")
PLACES = {name: 4 + 2 * i for i, name in enumerate(_NAMES)}
PLACE = 4 + 2 * len(_NAMES)  # entries

_LARGEST = np.iinfo(np.int32).max


@dataclass(frozen=True)
class Place:
    """Inputs of one size under weights of one shape.

    Attributes:
        output: the spatial size of the results.
        positions, pixels: output positions and input pixels of an image.
        image: bytes of a packed image, with its padding where the format wants it in place.
        line: bytes of a line of such an image, without padding.
        way: how products read: ``"lookup"``, ``"rows"``, or pixel by pixel: ``"gathered"``.
        arrays: index, borders and so on, and what is added (or compared with) at each border.
    """

    output: tuple[int, ...]
    positions: int
    pixels: int
    image: int
    line: int
    way: str
    arrays: tuple[NDArray[Any], ...]

    @functools.cached_property
    def record(self) -> NDArray[np.int64]:
        """The numbers, then address and length of each array."""
        return record_of([self.positions, self.pixels, self.image, self.line], self.arrays)

    @functools.cached_property
    def address(self) -> int:
        """Where the record lies."""
        return int(self.record.ctypes.data)


class Site(NamedTuple):
    """Weights at a place.

    Attributes:
        w: the weights.
        place: where they read.
        record: the weights' record; ``address`` is where it lies.
        pitch: places from one row of results to the next: floats, or bytes of bits.
    """

    w: Prepared
    place: Place
    record: NDArray[np.int64]
    address: int
    pitch: int


def float_site(w: Prepared, geometry: Geometry, size: tuple[int, ...]) -> Site:
    """Return where products become floats.

    Args:
        w: weights in a format that counts bits.
        geometry: of the convolution.
        size: the input's spatial size.
    """
    key = (geometry, size)
    place: Place | None = w.cache.get(key)
    return _site(w, _made(w, geometry, size, key) if place is None else place)


def row_site(w: Prepared) -> Site:
    """Return where rows become floats: as :func:`float_site`, for a linear layer."""
    place: Place | None = w.cache.get("rows")
    return _site(w, _made(w, PIXEL, (1,), "rows") if place is None else place)


def _site(w: Prepared, place: Place) -> Site:
    return Site(w, place, w.record, w.address, w.groups * w.outputs)


def _made(w: Prepared, geometry: Geometry, size: tuple[int, ...], key: Hashable) -> Place:
    if len(w.cache) >= 64:
        w.cache.clear()
    padding = (index_of(geometry, size).borders @ w.padding).ravel()
    place = place_at(w, geometry, size, padding)
    if key == "rows":
        place = replace(place, output=())
    w.cache[key] = place
    return place


def bit_site(
    w: Prepared, geometry: Geometry, size: tuple[int, ...], least: NDArray[np.int64]
) -> Site:
    """Return where products y, without scale and shift, become bits 1[y >= least].

    Args:
        w, geometry, size: as in :func:`float_site`; ``PIXEL`` and (1,) for a linear layer.
        least: one integer per output.

    Raises:
        ConfigurationError: for padding of fractions, with which y is no integer.
    """
    doubled = 2 * (index_of(geometry, size).borders.astype(np.float64) @ w.padding)
    whole = bool((doubled == np.rint(doubled)).all())
    require(whole, "pad_value", "a fraction", "then sums are no integers")
    plan = w.plan.copy()
    slope, row_slope, outputs = int(plan[11]), int(plan[12]), w.groups * w.outputs
    bound = 2 * least - w.coefficients.columns - doubled.astype(np.int64)
    if row_slope == 0:  # then nothing but X counts, once the factor is divided out
        plan[11] = np.sign(slope)
        bound = -(-bound // abs(slope))
    pitch = -(-outputs // 8)
    plan[17] = 8 * pitch
    extra = np.zeros(bound.size + 32, np.int32)
    extra[: bound.size] = np.clip(bound, -_LARGEST, _LARGEST).ravel()
    record = record_of(plan, w.arrays)
    place = place_at(w, geometry, size, extra)
    return Site(w, place, record, int(record.ctypes.data), pitch)


def place_at(
    w: Prepared, geometry: Geometry, size: tuple[int, ...], extra: NDArray[Any], *kept: NDArray[Any]
) -> Place:
    """Return where weights read images of a size.

    Args:
        w, geometry, size: as in :func:`float_site`.
        extra: what is added (or compared with) at each border.
        kept: further arrays that shall live as long.
    """
    index = index_of(geometry, size)
    runs = runs_of_image(geometry, size, w.groups, w.row_bytes)
    padded = w.format == "lookup"  # the others read each pixel by its index
    lines = runs.lines if padded else np.empty(0, np.int64)
    image = runs.image if padded else index.inputs * w.groups * w.row_bytes
    where = (index.pixels, index.border, runs.starts, runs.offsets, runs.sizes, lines)
    rows = not padded and index.inputs == w.taps * w.groups == 1
    way = "lookup" if padded else "rows" if rows else "gathered"
    sizes = (index.positions, index.inputs, image, runs.line)
    return Place(index.output, *sizes, way, (extra, *where, *kept))
