"""Linear layers and convolutions with packed weights: float inputs or codes in, float32 out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ste_lightning.kernels.depthwise.calls import convolve_grouped
from ste_lightning.kernels.gemm.bit_calls import floats_of, products, rows_call
from ste_lightning.kernels.gemm.code_calls import pack_for
from ste_lightning.kernels.layout.call_record import float_site, row_site
from ste_lightning.kernels.layout.geometry import Geometry, Index, index_of
from ste_lightning.kernels.layout.packed_weights import Prepared

__all__ = ["convolve", "linear", "small_linear"]

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


def _codes(x: Tensor, w: Prepared, scale: Tensor | None, shift: Tensor | None) -> Tensor:
    """Return codes as they are, or those of floats (channels last), quantized to one bit."""
    if x.dtype == torch.uint8:
        return x
    if scale is not None and shift is not None:
        x = x * scale + shift
    return ((x > 0) if not w.inputs.signs else ~(x < 0)).to(torch.uint8)


def _torch_values(x: Tensor, w: Prepared, scale: Tensor | None, shift: Tensor | None) -> Tensor:
    """Return the integers that the inputs stand for, in the type of ``w.values``."""
    return _codes(x, w, scale, shift).to(w.values.dtype) * w.inputs.step + w.inputs.offset


def small_linear(
    w: Prepared, scale: Tensor | None = None, shift: Tensor | None = None
) -> Callable[[Tensor], Tensor | None]:
    """Return :func:`linear` with these weights, ready for small calls; made once where unscaled.

    What it returns gives ``None`` for inputs that :func:`linear` must take.

    Args:
        w: weights in a format that counts bits.
        scale, shift: as in :func:`linear`.
    """
    if scale is not None:
        return rows_call(row_site(w), scale, shift)
    found: Callable[[Tensor], Tensor | None] | None = w.sites.get("call")
    if found is None:
        found = rows_call(row_site(w))
        w.sites["call"] = found
    return found


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
        y = small_linear(w)(x) if scale is None else None
        return products(x, row_site(w), scale, shift) if y is None else y
    if w.format == "torch":
        values = _torch_values(x, w, scale, shift)
        y = (values @ w.values[:, 0, :].T).float()
        return y * torch.from_numpy(w.scale) + torch.from_numpy(w.shift)
    site = row_site(w)
    return floats_of(site, pack_for(_codes(x.contiguous(), w, scale, shift), site))


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
    if w.format == "depthwise":
        index, padding = _at_borders(w, geometry, tuple(x.shape[2:]))
        return convolve_grouped(x, w, geometry, index, padding, scale, shift)
    from ste_lightning.kernels.pack.transpose import by_pixel

    site = float_site(w, geometry, tuple(x.shape[2:]))
    codes = _codes(by_pixel(x), w, scale, shift)
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
