"""Convolutions of groups of few channels: which compiled code computes them, and how it is called.

Where a group has one channel and the image is stored channel by channel, its pixels are the
vectors' lanes (:mod:`.channels_first`), else all groups' outputs (:mod:`.channels_last`), for
kernels of 3x3 where the processor sums four products at once, :mod:`.columns`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ste_lightning.kernels.jit.threads import share
from ste_lightning.kernels.layout.array_record import record_of
from ste_lightning.kernels.layout.geometry import Geometry, Index
from ste_lightning.kernels.layout.packed_weights import Prepared
from ste_lightning.kernels.layout.weight_tiles import DEPTHWISE_LANES

__all__ = ["convolve_grouped"]

_Floats = NDArray[np.float32]
_NO_FLOATS = np.empty(0, np.float32)
_LEAST, _MOST = 300, 1 << 22  # pixels of a channel


def convolve_grouped(
    x: Tensor,
    w: Prepared,
    geometry: Geometry,
    index: Index,
    padding: _Floats,
    scale: Tensor | None,
    shift: Tensor | None,
) -> Tensor:
    """Return the convolution of q(x) with weights of the format ``depthwise``.

    Args:
        x, w, geometry, scale, shift: as in :func:`~ste_lightning.kernels.convolve`.
        index: of the geometry and the size of ``x``.
        padding: per border and output, what padding adds.
    """
    compared = _thresholds(scale, shift)
    large = x.dtype == torch.uint8 or index.inputs >= _LEAST  # else lines are too short
    if large and x.is_contiguous() and not x.movedim(1, -1).is_contiguous():
        by_plane = _padded_planes(w, geometry, tuple(x.shape[2:]))
        if by_plane is not None:
            return _convolve_planes(x, w, by_plane, index, compared)
    out = torch.empty(len(x), *index.output, w.groups * w.outputs)
    columns = _columns(w, geometry, tuple(x.shape[2:]))
    if columns is not None and out.numel() > 0:
        _convolve_columns(x, w, columns, index, compared, out)
    elif out.numel() > 0:
        _convolve_lanes(x, w, index, padding, compared, out)
    return out.movedim(-1, 1)


def _thresholds(scale: Tensor | None, shift: Tensor | None) -> tuple[_Floats, _Floats]:
    """Return factor and offset per channel of what is compared with zero; empty if x itself is."""
    if scale is None or shift is None:
        return _NO_FLOATS, _NO_FLOATS
    return scale.contiguous().numpy(), shift.contiguous().numpy()


@dataclass(frozen=True)
class _Planes:
    """How :mod:`.channels_first` convolves images of a size.

    Attributes:
        unit: how many times a code is stored, so that padding is an integer too.
        pad: what padding is stored as.
        shape, places, apart, weights: as there.
        sums: an empty array of the type of the sums.
        least: planes worth a thread.
    """

    unit: int
    pad: int
    shape: NDArray[np.int64]
    places: NDArray[np.int64]
    apart: int
    weights: NDArray[np.int16]
    sums: NDArray[np.signedinteger[Any]]
    least: int


def _padded_planes(w: Prepared, geometry: Geometry, size: tuple[int, ...]) -> _Planes | None:
    """Return how planes of a size are convolved, made once; None where they cannot be."""
    key = ("planes", geometry, size)
    if key not in w.cache:
        w.cache[key] = _make_planes(w, geometry, size)
    found: _Planes | None = w.cache[key]
    return found


def _make_planes(w: Prepared, geometry: Geometry, size: tuple[int, ...]) -> _Planes | None:
    unit = 1 if w.pad_code == int(w.pad_code) else 2
    pad, most = int(unit * w.pad_code), (2**w.inputs.bits - 1) * unit
    if not (w.channels == w.outputs == 1 and len(size) in (1, 2)):
        return None
    if not 0 <= pad <= most or pad != unit * w.pad_code:
        return None
    line = [(1, 1, (0, 0), 1, 1, 1)] if len(size) == 1 else []
    parts = zip(
        *(size, geometry.output(size), geometry.padding, geometry.stride),
        *(geometry.kernel, geometry.dilation),
        strict=True,
    )
    sizes, outputs, pads, strides, kernels, dilations = zip(*line, *parts, strict=True)
    padded = [n + sum(p) for n, p in zip(sizes, pads, strict=True)]
    largest = int(np.abs(w.terms).sum(1, dtype=np.int64).max()) * most
    if largest >= 1 << 23 or math.prod(padded) > _MOST:  # floats would round what padding adds
        return None
    weights = w.terms.astype(np.int64) * (w.coefficients.slope // unit)
    doubled = np.abs(weights).sum(1).max() * most + np.abs(w.coefficients.columns).max()
    if np.abs(weights).max() >= 1 << 15:
        return None
    before = [p[0] for p in pads]
    lines, pixels = (np.arange(k) * d for k, d in zip(kernels, dilations, strict=True))
    small, apart = bool(doubled < 1 << 15), 0
    if small and len(pixels) > 1 and most < 1 << 8 and np.abs(weights).max() < 1 << 7:
        apart, pixels = dilations[1], pixels[::2]
        weights = _in_pairs(weights.reshape(-1, *kernels))
    return _Planes(
        unit,
        pad,
        np.array([*sizes, *outputs, *strides, *before, *padded], np.int64),
        (lines[:, None] * padded[1] + pixels).ravel(),
        apart,
        weights.astype(np.int16).ravel(),
        np.empty(0, np.int16 if small else np.int32),
        1 + (1 << 19) // (w.taps * math.prod(padded)),
    )


def _in_pairs(weights: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return neighbours on the last axis as bytes of a word; after an odd one comes a zero."""
    even = np.pad(weights, [(0, 0), (0, 0), (0, weights.shape[2] % 2)]).astype(np.int8)
    return even.view("<i2").astype(np.int64)


def _convolve_planes(
    x: Tensor, w: Prepared, by: _Planes, index: Index, compared: tuple[_Floats, _Floats]
) -> Tensor:
    from ste_lightning.kernels.depthwise import channels_first

    out = torch.empty(len(x), w.groups, *index.output)
    strict = x.dtype == torch.float32 and not w.inputs.signs
    arguments = (
        *(x.numpy().reshape(-1), *compared, strict, by.unit, by.pad, by.shape, by.places, by.apart),
        *(by.weights, w.coefficients.columns, w.scale, w.shift, by.sums, out.numpy().reshape(-1)),
    )
    share(
        lambda a, b: channels_first.convolve_planes(*arguments, a, b),
        len(x) * w.groups,
        by.least,
    )
    return out


@dataclass(frozen=True)
class _Columns:
    """How :mod:`.columns` convolves images of a size.

    Attributes:
        record: as there; ``arrays`` are what it refers to.
        lines: of outputs in an image.
        least: lines worth a thread.
    """

    record: NDArray[np.int64]
    arrays: tuple[NDArray[Any], ...]
    lines: int
    least: int


def _columns(w: Prepared, geometry: Geometry, size: tuple[int, ...]) -> _Columns | None:
    """Return how columns of a size are convolved, made once; None where they cannot be."""
    key = ("columns", geometry, size)
    if key not in w.cache:
        w.cache[key] = _make_columns(w, geometry, size)
    found: _Columns | None = w.cache[key]
    return found


def _make_columns(w: Prepared, geometry: Geometry, size: tuple[int, ...]) -> _Columns | None:
    from ste_lightning.kernels.depthwise.columns import LANES
    from ste_lightning.kernels.jit.cpu_features import vnni_bits

    channels, slope, starts = w.groups, w.coefficients.slope, w.coefficients.columns
    shaped = geometry.kernel == (3, 3) and geometry.dilation == (1, 1)
    if not (shaped and w.channels == w.outputs == 1 and geometry.stride[1] <= 2 and vnni_bits()):
        return None
    shifted = 0 if w.pad_code == int(w.pad_code) else 1  # so that half a code is a number too
    pad, most = w.pad_code * 2**shifted, (2**w.inputs.bits - 1) << shifted
    whole = pad == int(pad) and 0 <= pad < 256 and most < 256
    divided = slope % (2 << shifted) == 0 and not (starts % 2).any()
    if channels % LANES or not (whole and divided):
        return None
    weights = w.terms.astype(np.int64) * (slope // (2 << shifted))
    largest = np.abs(weights).sum(axis=1).max() * 255 + np.abs(starts).max()
    if weights.min() < -128 or weights.max() > 127 or largest >= 1 << 23:
        return None
    # a word for every column: the bytes of three lines, and a zero
    lines = np.zeros((channels // LANES, 3, LANES, 4), np.int8)
    lines[..., :3] = weights.reshape(-1, LANES, 3, 3).transpose(0, 3, 1, 2)
    arrays = (lines.view(np.int32).ravel(), (starts // 2).astype(np.int32), w.scale, w.shift)
    (top, _), (left, _) = geometry.padding
    rows, columns = geometry.output(size)
    numbers = (channels, *size, top, left, int(pad), rows, columns, *geometry.stride, shifted)
    least = 1 + (1 << 18) // (columns * channels)
    return _Columns(record_of(numbers, arrays), arrays, rows, least)


def _convolve_columns(
    x: Tensor,
    w: Prepared,
    by: _Columns,
    index: Index,
    compared: tuple[_Floats, _Floats],
    out: Tensor,
) -> None:
    from ste_lightning.kernels.depthwise import columns

    last, (factor, offset) = x.movedim(1, -1), compared
    record, to = by.record.ctypes.data, out.data_ptr()
    if x.dtype == torch.uint8 and last.is_contiguous():
        given: tuple[Any, ...] = (record, last.data_ptr(), to)
        work = columns.convolve_codes()
    elif x.dtype == torch.uint8 or not last.is_contiguous():
        codes = _codes(x, w, index, compared, 1 + (1 << 17) // x.shape[1], 0)
        given = (record, codes.ctypes.data, to)
        work = columns.convolve_codes()
    else:
        thresholds = (factor.ctypes.data, offset.ctypes.data, len(factor))
        given = (record, last.data_ptr(), *thresholds, not w.inputs.signs, to)
        work = columns.convolve_floats()
    share(lambda a, b: work(*given, a, b), len(x) * by.lines, by.least)


def _convolve_lanes(
    x: Tensor,
    w: Prepared,
    index: Index,
    padding: _Floats,
    compared: tuple[_Floats, _Floats],
    out: Tensor,
) -> None:
    from ste_lightning.kernels.depthwise import channels_last

    pixels = len(x) * index.inputs
    outputs, channels = w.groups * w.outputs, w.groups * w.channels
    alone = w.channels == w.outputs == 1
    # Where an output is not its channel, codes are copied to the lanes that they belong to.
    filled = -(-outputs // DEPTHWISE_LANES) * DEPTHWISE_LANES
    lanes = channels if alone else filled
    least = 1 + (1 << 17) // channels
    codes = _codes(x, w, index, compared, least, filled if alone else 0)
    plane = pixels * lanes
    spread = codes
    if not alone:
        spread = _bytes(w.channels * plane + lanes)
        spread[w.channels * plane :] = 0
        share(
            lambda a, b: channels_last.spread_codes(
                codes, w.channels, w.groups, w.outputs, spread, lanes, plane, a, b
            ),
            pixels,
            least,
        )
    share(
        lambda a, b: channels_last.convolve(
            *(spread, lanes, plane, w.channels, w.channels * plane, w.in_16_bits),
            *(w.coefficients.slope, index.inputs, index.pixels, index.border, index.positions),
            *(w.taps, w.panels.view(np.int16), w.coefficients.columns, padding, w.scale, w.shift),
            *(out.numpy().reshape(-1), a, b),
        ),
        len(x) * index.positions,
        1 + (1 << 19) // (w.taps * w.channels * lanes),
        4,
    )


def _bytes(count: int) -> NDArray[np.uint8]:
    """Return bytes that begin at a cache line."""
    return torch.empty(count, dtype=torch.uint8).numpy()


def _codes(
    x: Tensor,
    w: Prepared,
    index: Index,
    compared: tuple[_Floats, _Floats],
    least: int,
    zeros: int,
) -> NDArray[np.uint8]:
    """Return the codes of ``x``, a pixel after the other, and after them ``zeros`` zeros."""
    from ste_lightning.kernels.depthwise import channels_last
    from ste_lightning.kernels.pack import transpose

    pixels, channels = len(x) * index.inputs, x.shape[1]
    if x.dtype == torch.uint8 and zeros == 0:
        return transpose.by_pixel(x).numpy().reshape(-1)
    codes = _bytes(pixels * channels + zeros)
    codes[pixels * channels :] = 0
    if x.dtype == torch.uint8:
        codes[: pixels * channels] = transpose.by_pixel(x).numpy().reshape(-1)
        return codes
    factor, offset = compared
    strict, last = not w.inputs.signs, x.movedim(1, -1)
    planar = x.is_contiguous() and not last.is_contiguous()
    if planar and index.inputs >= 32 and channels % 8 == 0:
        flat = x.numpy().reshape(-1)
        share(
            lambda a, b: channels_last.binary_planar(
                flat, channels, index.inputs, strict, factor, offset, codes, channels, a, b
            ),
            len(x),
            1 + least // index.inputs,
        )
    else:
        flat = last.contiguous().numpy().reshape(-1)
        share(
            lambda a, b: channels_last.binary_rows(
                flat, channels, strict, factor, offset, codes, channels, a, b
            ),
            pixels,
            least,
        )
    return codes
