"""Linear layers and convolutions with packed weights: float inputs or codes in, float32 out."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ste_lightning.kernels.depthwise.calls import convolve_grouped
from ste_lightning.kernels.gemm.bit_calls import floats_of, products
from ste_lightning.kernels.gemm.code_calls import pack_for
from ste_lightning.kernels.jit.threads import share
from ste_lightning.kernels.layout.call_record import float_site, row_site
from ste_lightning.kernels.layout.geometry import Geometry, Index, index_of
from ste_lightning.kernels.layout.packed_weights import Prepared

__all__ = ["convolve", "linear"]

_NONE = np.empty(0, np.int32)


_Placed = tuple[Index, NDArray[np.float32]]


def _at_borders(w: Prepared, geometry: Geometry, size: tuple[int, ...]) -> _Placed:
    """Return the index for these weights and inputs of a size, made once."""
    placed: _Placed | None = w.cache.get((geometry, size))
    if placed is None:
        index = index_of(geometry, size)
        if len(w.cache) >= 64:
            w.cache.clear()
        padding = (index.borders @ w.padding).ravel()
        placed = w.cache[geometry, size] = (index, padding)
    return placed


@dataclass(frozen=True)
class _Packed:
    """Packed inputs: bit planes of rows, and the codes' sums where they are needed."""

    bits: NDArray[np.uint8]
    plane: int
    sums: NDArray[np.int32]


def _room(rows: int, size: int, planes: int) -> NDArray[np.uint8]:
    """Return bytes for packed rows, with zeros for seven rows and 16 bytes past the end.

    A micro-kernel reads there for rows that do not exist; where a row holds offsets into a table,
    it must not find anything else.
    """
    bits = np.empty(planes * rows * size + 7 * size + 16, np.uint8)
    bits[planes * rows * size :] = 0
    return bits


@functools.lru_cache(maxsize=64)
def _zeros(count: int) -> NDArray[np.float32]:
    return np.zeros(count, np.float32)


def _pack(x: Tensor, w: Prepared, scale: Tensor | None, shift: Tensor | None) -> _Packed:
    """Pack rows x (groups x channels): float32 to be quantized to one bit, or uint8 codes."""
    from ste_lightning.kernels.pack import input_codes

    rows, size = len(x), w.row_bytes * w.groups
    bits = _room(rows, size, w.input_planes)
    sums = np.empty(rows * w.groups, np.int32) if w.coefficients.row_slope else _NONE
    flat = (x if x.dtype == torch.uint8 else _bits(x, w, scale, shift)).numpy().reshape(-1)

    def digits(first: int, last: int) -> None:
        input_codes.pack_digits(w.plan, flat, bits, rows * size, sums, first, last)

    share(digits, rows, least=1 + (1 << 18) // max(x.shape[1], 1))
    return _Packed(bits, rows * size, sums)


def _bits(x: Tensor, w: Prepared, scale: Tensor | None, shift: Tensor | None) -> Tensor:
    """Return the codes of floats (channels last) that are quantized to one bit."""
    if scale is not None and shift is not None:
        x = x * scale + shift
    return ((x > 0) if not w.inputs.signs else ~(x < 0)).to(torch.uint8)


def _torch_values(x: Tensor, w: Prepared, scale: Tensor | None, shift: Tensor | None) -> Tensor:
    """Return the integers that the inputs stand for, in the type of ``w.values``."""
    codes = x if x.dtype == torch.uint8 else _bits(x, w, scale, shift)
    return codes.to(w.values.dtype) * w.inputs.step + w.inputs.offset


def linear(
    x: Tensor, w: Prepared, scale: Tensor | None = None, shift: Tensor | None = None
) -> Tensor:
    """Return ``scale_w * (q(x) W^T) + shift_w`` as float32.

    Args:
        x: (rows, channels) on the CPU: float32, quantized here to one bit by sign or step; or
            uint8 codes, as ``w.inputs`` says.
        w: weights from :func:`~ste_lightning.kernels.prepare`.
        scale, shift: float32 per channel; the sign or step is then that of scale x + shift.

    Returns:
        (rows, outputs), float32; exact integers below 2^24 where ``w`` has no scale and shift.
    """
    if w.counts_bits:
        return products(x, row_site(w), scale, shift)
    if w.format == "torch":
        values = _torch_values(x, w, scale, shift)
        y = (values @ w.values[:, 0, :].T).float()
        return y * torch.from_numpy(w.scale) + torch.from_numpy(w.shift)
    rows = x.shape[0]
    x = x.contiguous()
    if w.layout.by_dot:
        codes = x if x.dtype == torch.uint8 else _bits(x, w, scale, shift)
        site = row_site(w)
        return floats_of(site, pack_for(codes, site))
    out = torch.empty(rows, w.outputs)
    if out.numel() == 0:
        return out
    packed = _pack(x, w, scale, shift)
    part = _of_rows(w, packed, out.numpy().reshape(-1))
    panels = -(-w.outputs // w.layout.width)
    if rows >= 4 * panels:
        least = 1 + _LEAST_WORK // w.work
        share(lambda a, b: part(a, b, 0, panels), rows, least, 16)
    else:
        least = 1 + _LEAST_WORK * panels // (w.work * rows)
        share(lambda a, b: part(0, rows, a, b), panels, least)
    return out


_LEAST_WORK = 1 << 22  # bytes of bits x outputs: about 0.1 ms


def _of_rows(w: Prepared, packed: _Packed, out: NDArray[np.float32]) -> Callable[..., None]:
    """Return the product of packed rows: a function of (first, last, begin, end)."""
    from ste_lightning.kernels.gemm.int8 import multiply

    inputs = (packed.bits, packed.plane, packed.sums)
    return functools.partial(_call, multiply, w, inputs, _zeros(w.outputs), out)


def _call(
    product: Callable[..., None],
    w: Prepared,
    where: tuple[Any, ...],
    padding: NDArray[np.float32],
    out: NDArray[np.float32],
    *ranges: int,
) -> None:
    weights = (w.panels, w.coefficients.columns, padding, w.scale, w.shift)
    product(w.plan, *where, *weights, out, *ranges)


def _of_images(
    w: Prepared, packed: _Packed, images: int, placed: _Placed, out: NDArray[np.float32]
) -> Callable[[int, int], None]:
    """Return the convolution of packed images: a function of a range of output positions."""
    from ste_lightning.kernels.gemm.int8 import multiply_gathered

    index, padding = placed
    inputs = (packed.bits, packed.plane, packed.sums)
    where = (*inputs, index.inputs, index.pixels, index.border, index.positions)
    return functools.partial(_call, multiply_gathered, w, where, padding, out)


def convolve(
    x: Tensor,
    w: Prepared,
    geometry: Geometry,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
) -> Tensor:
    """Return the convolution of q(x) with packed weights, scaled and shifted, as float32.

    Args:
        x: (images, groups x channels, *size) on the CPU; dtypes as in :func:`linear`.
        w: weights whose taps are the kernel positions in row-major order.
        geometry: kernel, stride, padding and dilation.
        scale, shift: as in :func:`linear`.

    Returns:
        (images, outputs, *output size), float32, stored with the channels last; of a depthwise
        convolution either so or like ``x``.
    """
    if w.counts_bits:
        site = float_site(w, geometry, tuple(x.shape[2:]))
        return products(x, site, scale, shift).movedim(-1, 1)
    if w.format == "torch":
        y = _convolve_torch(x, w, geometry, scale, shift)
        return y.contiguous(memory_format=torch.channels_last) if y.dim() == 4 else y
    if w.format != "depthwise" and w.layout.by_dot:
        return _convolve_bytes(x, w, geometry, scale, shift)
    images, outputs = len(x), w.groups * w.outputs
    placed = _at_borders(w, geometry, tuple(x.shape[2:]))
    index, padding = placed
    if w.format == "depthwise":
        return convolve_grouped(x, w, geometry, index, padding, scale, shift)
    from ste_lightning.kernels.pack.transpose import by_pixel

    out = torch.empty(images, *index.output, outputs)
    rows = by_pixel(x).view(-1, x.shape[1])
    packed = _pack(rows, w, scale, shift)
    if out.numel() > 0:
        part = _of_images(w, packed, images, placed, out.numpy().reshape(-1))
        least = 1 + _LEAST_WORK // (w.work * w.groups)
        share(part, images * index.positions, least, 16)
    return out.movedim(-1, 1)


def _convolve_bytes(
    x: Tensor, w: Prepared, geometry: Geometry, scale: Tensor | None, shift: Tensor | None
) -> Tensor:
    from ste_lightning.kernels.pack.transpose import by_pixel

    site = float_site(w, geometry, tuple(x.shape[2:]))
    codes = by_pixel(x)
    if codes.dtype != torch.uint8:
        codes = _bits(codes, w, scale, shift)
    return floats_of(site, pack_for(codes, site)).movedim(-1, 1)


def _convolve_torch(
    x: Tensor, w: Prepared, geometry: Geometry, scale: Tensor | None, shift: Tensor | None
) -> Tensor:
    values = _torch_values(x.movedim(1, -1), w, scale, shift).movedim(-1, 1)
    weight = w.values.movedim(1, 2).reshape(w.groups * w.outputs, w.channels, *geometry.kernel)
    pads = [p for pair in reversed(geometry.padding) for p in pair]
    padded = torch.nn.functional.pad(values, pads, value=float(w.inputs.offset))
    convolution: Any = (
        torch.nn.functional.conv1d,
        torch.nn.functional.conv2d,
        torch.nn.functional.conv3d,
    )[len(geometry.kernel) - 1]
    y: Tensor = convolution(padded, weight, None, geometry.stride, 0, geometry.dilation, w.groups)
    y = y.float()
    if w.padding.any():
        index = index_of(geometry, tuple(x.shape[2:]))
        correction = torch.from_numpy((index.borders @ w.padding)[index.border])
        y = y + correction.T.reshape(1, -1, *y.shape[2:])
    shape = (1, -1, *[1] * (y.dim() - 2))
    return y * torch.from_numpy(w.scale).view(shape) + torch.from_numpy(w.shift).view(shape)
