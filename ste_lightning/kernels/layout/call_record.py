"""Where products read and write, in one array of integers that compiled code understands.

Passing an array from Python to compiled code costs about a microsecond, so a call passes the
address of a site's record instead. It holds the weights' plan, the address and length of each of
their arrays, numbers that describe the place, and address and length of its arrays.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ste_lightning.errors import require
from ste_lightning.kernels.layout.array_record import record_of
from ste_lightning.kernels.layout.geometry import Geometry, index_of
from ste_lightning.kernels.layout.indirection import runs_of_image
from ste_lightning.kernels.layout.packed_weights import Prepared
from ste_lightning.kernels.layout.plan import PLAN, PLAN_PITCH, PLAN_ROW_SLOPE, PLAN_SLOPE

__all__ = [
    "ARRAYS",
    "NUMBERS",
    "PIXEL",
    "RECORD",
    "Site",
    "bit_site",
    "float_site",
    "row_site",
    "site_at",
]

PIXEL = Geometry((1,), (1,), ((0, 0),), (1,))  # a linear layer is a convolution of single pixels

_WEIGHTS = ("panels", "columns", "scale", "shift")
_PLACE = ("extra", "index", "border", "starts", "offsets", "sizes", "lines")
_FIRST = PLAN + 2 * len(_WEIGHTS)
NUMBERS = {name: _FIRST + i for i, name in enumerate(("positions", "pixels", "image", "line"))}
_AFTER = _FIRST + len(NUMBERS)
ARRAYS = {name: PLAN + 2 * i for i, name in enumerate(_WEIGHTS)}
ARRAYS |= {name: _AFTER + 2 * i for i, name in enumerate(_PLACE)}
RECORD = _AFTER + 2 * len(_PLACE)  # entries

_LARGEST = np.iinfo(np.int32).max


@dataclass(frozen=True)
class _Place:
    """Inputs of one size under weights of one shape, whatever these are.

    Attributes:
        way, output, positions, pixels, image: as in :class:`Site`.
        arrays: what is added to (or compared with) the sums at each border, then index, borders
            and so on.
        record: its part of a site's.
    """

    way: str
    output: tuple[int, ...]
    positions: int
    pixels: int
    image: int
    arrays: tuple[NDArray[Any], ...]
    record: NDArray[np.int64]


@dataclass(frozen=True)
class Site:
    """Weights, and inputs of one size under them.

    Attributes:
        way: how products read: ``"lookup"``, ``"rows"``, or pixel by pixel: ``"gathered"``.
        output: the spatial size of the results.
        positions, pixels: output positions and input pixels of an image.
        image: bytes of a packed image, with its padding where the format wants it in place.
        pitch: places from one row of results to the next: floats, or bytes of bits.
        format: of the weights.
        planes: of an input's bits (or digits).
        groups, channels: of the inputs; channels of all groups.
        row_bytes: of a packed pixel and group in a plane.
        panels: of a group's weights.
        work: bytes of bits x outputs that an image's products take.
        summed: whether products need the sums of the inputs' codes.
        arrays: what the record refers to.
        record: for compiled code; ``address`` is where it lies.
    """

    way: str
    output: tuple[int, ...]
    positions: int
    pixels: int
    image: int
    pitch: int
    format: str
    planes: int
    groups: int
    channels: int
    row_bytes: int
    panels: int
    work: int
    summed: bool
    arrays: tuple[NDArray[Any], ...]
    record: NDArray[np.int64]
    address: int


def float_site(w: Prepared, geometry: Geometry, size: tuple[int, ...]) -> Site:
    """Return where products become floats.

    Args:
        w: weights in a format that counts bits.
        geometry: of the convolution.
        size: the input's spatial size.
    """
    key = (geometry, size)
    site: Site | None = w.sites.get(key)
    return _made(w, geometry, size, key) if site is None else site


def row_site(w: Prepared) -> Site:
    """Return where rows become floats: as :func:`float_site`, for a linear layer."""
    site: Site | None = w.sites.get("rows")
    return _made(w, PIXEL, (1,), "rows") if site is None else site


def _made(w: Prepared, geometry: Geometry, size: tuple[int, ...], key: Hashable) -> Site:
    place: _Place | None = w.cache.get(key)
    if place is None:
        if len(w.cache) >= 64:
            w.cache.clear()
        padding = (index_of(geometry, size).borders @ w.padding).ravel()
        output = () if key == "rows" else geometry.output(size)
        place = w.cache[key] = _place(w, geometry, size, output, padding)
    if len(w.sites) >= 64:
        w.sites.clear()
    site = w.sites[key] = _site(w, w.plan, w.arrays, place, w.groups * w.outputs)
    return site


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
    slope, row_slope, outputs = (
        int(plan[PLAN_SLOPE]),
        int(plan[PLAN_ROW_SLOPE]),
        w.groups * w.outputs,
    )
    bound = 2 * least - w.coefficients.columns - doubled.astype(np.int64)
    if row_slope == 0:  # then nothing but X counts, once the factor is divided out
        plan[PLAN_SLOPE] = np.sign(slope)
        bound = -(-bound // abs(slope))
    pitch = -(-outputs // 8)
    plan[PLAN_PITCH] = 8 * pitch
    extra = np.zeros(bound.size + 32, np.int32)
    extra[: bound.size] = np.clip(bound, -_LARGEST, _LARGEST).ravel()
    return site_at(w, geometry, size, extra, plan, w.arrays, pitch)


def site_at(
    w: Prepared,
    geometry: Geometry,
    size: tuple[int, ...],
    extra: NDArray[Any],
    plan: NDArray[np.int64],
    arrays: tuple[NDArray[Any], ...],
    pitch: int,
) -> Site:
    """Return where weights read, with what becomes of their sums.

    Args:
        w, geometry, size: as in :func:`float_site`.
        extra: what is added to (or compared with) the sums at each border.
        plan, arrays: as those of ``w``, or with other ends of the products.
        pitch: places from one row of results to the next.
    """
    return _site(w, plan, arrays, _place(w, geometry, size, geometry.output(size), extra), pitch)


def _place(
    w: Prepared,
    geometry: Geometry,
    size: tuple[int, ...],
    output: tuple[int, ...],
    extra: NDArray[Any],
) -> _Place:
    index = index_of(geometry, size)
    runs = runs_of_image(geometry, size, w.groups, w.row_bytes)
    padded = w.format == "lookup"  # the others read each pixel by its index
    lines = runs.lines if padded else np.empty(0, np.int64)
    image = runs.image if padded else index.inputs * w.groups * w.row_bytes
    rows = not padded and index.inputs == w.taps * w.groups == 1
    if w.layout.by_dot and w.taps * w.groups == 1 and index.positions == index.inputs:
        rows = bool((index.pixels == np.arange(index.inputs)).all())
    way = "lookup" if padded else "rows" if rows else "gathered"
    arrays = (extra, index.pixels, index.border, runs.starts, runs.offsets, runs.sizes, lines)
    record = record_of((index.positions, index.inputs, image, runs.line), arrays)
    return _Place(way, output, index.positions, index.inputs, image, arrays, record)


def _site(
    w: Prepared,
    plan: NDArray[np.int64],
    arrays: tuple[NDArray[Any], ...],
    place: _Place,
    pitch: int,
) -> Site:
    record = np.concatenate([record_of(plan, arrays), place.record])
    return Site(
        *(place.way, place.output, place.positions, place.pixels, place.image, pitch),
        format=w.format,
        planes=w.input_planes,
        groups=w.groups,
        channels=w.groups * w.channels,
        row_bytes=w.row_bytes,
        panels=-(-w.outputs // w.layout.width),
        work=w.work * w.groups * place.positions,
        summed=bool(w.coefficients.row_slope),
        arrays=(*arrays, *place.arrays),
        record=record,
        address=int(record.ctypes.data),
    )
