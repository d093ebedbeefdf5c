"""Products that become codes of several bits, which other products read."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ste_lightning.kernels.epilogue.threshold_table import table_of
from ste_lightning.kernels.gemm.bit_calls import Packed, pack_images, share_products
from ste_lightning.kernels.gemm.entries import entry_point
from ste_lightning.kernels.jit.threads import share
from ste_lightning.kernels.layout.call_record import Site, site_at
from ste_lightning.kernels.layout.geometry import Geometry, index_of
from ste_lightning.kernels.layout.packed_weights import Prepared
from ste_lightning.kernels.layout.weight_tiles import LAYOUTS

__all__ = ["code_site", "codes_of", "pack_for", "pooled"]

_LEAST_CODES = 1 << 16
_PAST = 16  # bytes past its end that a product may read


@functools.cache
def _pack_digits() -> Callable[..., None]:
    from ste_lightning.kernels.gemm.code_entry_points import pack_digits

    return pack_digits()


@functools.cache
def _pool() -> Callable[..., None]:
    from ste_lightning.kernels.gemm.code_entry_points import pool

    return pool()


def code_site(
    w: Prepared,
    geometry: Geometry,
    size: tuple[int, ...],
    least: NDArray[np.int64],
    falling: NDArray[np.bool_],
    largest: int,
) -> Site:
    """Return where products y, without scale and shift, become codes.

    The code is the number of k with y >= least[k], or with y < least[k] where it falls.

    Args:
        w, geometry, size: as in :func:`~ste_lightning.kernels.layout.call_record.float_site`; of
            any format but ``"torch"`` and ``"depthwise"``. Padding must be worth whole numbers.
        least: (count, outputs) integers.
        falling: (outputs,).
        largest: a bound on the size of y.
    """
    doubled = 2 * (index_of(geometry, size).borders.astype(np.float64) @ w.padding)
    added = w.coefficients.columns + np.rint(doubled).astype(np.int64)
    extra = np.zeros(added.size + 32, np.int32)
    extra[: added.size] = added.ravel()
    table = table_of(least, falling, largest)
    panels, _, scale, shift = w.arrays
    arrays = (panels, table, scale, shift)
    return site_at(w, geometry, size, extra, w.plan, arrays, w.groups * w.outputs)


def pack_for(
    x: Tensor, site: Site, factor: Tensor | None = None, offset: Tensor | None = None
) -> Packed:
    """Return images as a product reads them.

    Args:
        x: (images, *size, channels) contiguous uint8 codes, or what
            :func:`~ste_lightning.kernels.gemm.bit_calls.pack_images` takes.
        site: of the product.
        factor, offset: as there.
    """
    if x.dtype != torch.uint8:
        return pack_images(x, site, factor, offset)
    layout = LAYOUTS[site.format]
    if not layout.of_products:
        return pack_images(x.movedim(-1, 1), site)
    images, rows = x.shape[0], x.numel() // site.channels
    size = site.groups * site.row_bytes
    past = _PAST + (3 * size if site.way == "rows" else 0)
    plain = size == site.channels and not site.summed
    if plain and layout.by_dot and site.way == "rows":
        return Packed(x, x, images)
    if (
        plain
        and (layout.by_dot or site.format == "digits")
        and x.untyped_storage().nbytes() - x.storage_offset() >= x.numel() + past
    ):
        return Packed(x, x, images)
    plane = rows * size
    bits = torch.empty(site.planes * plane + past, dtype=torch.uint8)
    bits[site.planes * plane :] = 0  # where offsets into a table are read, none may be wrong
    sums = torch.empty(rows * site.groups if site.summed else 0, dtype=torch.int32)
    work = _pack_digits()
    given = (site.address, x.data_ptr(), bits.data_ptr(), plane, sums.data_ptr())
    least = 1 + _LEAST_CODES // site.channels
    share(lambda a, b: work(*given, a, b), rows, least)
    return Packed(bits, sums, images)


def codes_of(site: Site, packed: Packed) -> Tensor:
    """Return the products as codes, contiguous uint8 (images, *output, outputs)."""
    shape = (packed.images, *site.output, site.pitch)
    out = _room(shape)
    if out.numel() > 0:
        _multiply(site, packed, out)
    return out


def _room(shape: tuple[int, ...]) -> Tensor:
    """Return uint8, with bytes behind them that a product may read."""
    count = int(np.prod(shape))
    return torch.empty(count + 3 * shape[-1] + _PAST, dtype=torch.uint8)[:count].view(shape)


def _multiply(site: Site, packed: Packed, out: Tensor) -> None:
    digits = LAYOUTS[site.format].of_products
    work = entry_point(site, "codes")
    image = site.pixels * site.groups * site.row_bytes if digits else site.image
    given = (
        *(site.address, packed.bits.data_ptr(), packed.images * image, packed.sums.data_ptr()),
        out.data_ptr(),
    )
    share_products(functools.partial(work, *given), site, packed.images)


def pooled(
    x: Tensor, size: tuple[int, ...], window: NDArray[np.int64], flips: NDArray[np.uint8]
) -> Tensor:
    """Return the largest code of each window.

    Args:
        x: (images, *size, channels) contiguous uint8.
        size: the pooled size.
        window: (pixels, taps) int64, the bytes at which the pixels of each window begin in an
            image; -1 for none.
        flips: per channel 0, or 255 for the smallest code instead.
    """
    images, channels = x.shape[0], x.shape[-1]
    out = _room((images, *size, channels))
    image = x.numel() // max(images, 1)
    where = (window.ctypes.data, *window.shape, flips.ctypes.data, channels, out.data_ptr())
    work = _pool()
    least = 1 + _LEAST_CODES // (window.size * channels)
    share(lambda a, b: work(x.data_ptr(), image, *where, a, b), images, least)
    return out
