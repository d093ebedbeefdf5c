"""Products by counted bits: inputs are packed once, and bits may pass from product to product."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ste_lightning.errors import require
from ste_lightning.kernels.site import Site
from ste_lightning.kernels.threads import share

__all__ = ["Packed", "Relay", "bits_of", "floats_of", "pack_images", "products"]

_LEAST_WORK = 1 << 22  # bytes of bits x outputs: about 0.1 ms
_LEAST_PACKED = 1 << 17  # bits


@functools.cache
def _compiled(name: str) -> Any:
    """Return a compiled function; the first call imports numba."""
    from ste_lightning.kernels import sited

    return getattr(sited, name)()


class Packed(NamedTuple):
    """Images of bits as a product reads them.

    Attributes:
        bits: uint8, for each bit of the codes all images.
        sums: int32, the codes' sums of each pixel and group, where the product needs them.
        images: how many.
    """

    bits: Tensor
    sums: Tensor
    images: int


def _room(site: Site, images: int) -> Packed:
    """Return memory for packed images, with what products read behind it."""
    w, place = site.w, site.place
    size = w.input_planes * images * place.image + 16
    if site.place.way == "rows":
        size += 7 * place.image
    bits = torch.empty(size, dtype=torch.uint8)
    sums = bits  # any address
    if w.coefficients.row_slope:
        sums = torch.empty(images * place.pixels * w.groups, dtype=torch.int32)
    return Packed(bits, sums, images)


def _floats_in(
    x: Tensor, site: Site, factor: Tensor | None, offset: Tensor | None
) -> tuple[tuple[Any, ...], tuple[Tensor | None, ...]]:
    """Return how compiled code finds floats and thresholds, and what has to live until then."""
    w, place = site.w, site.place
    planar = place.pixels > 1 and x.is_contiguous() and not w.coefficients.row_slope
    if not planar:
        x = x.movedim(1, -1).contiguous() if x.dim() > 2 else x.contiguous()
    thresholds: tuple[int, ...] = (0, 0, 0)
    if factor is not None and offset is not None:
        factor, offset = factor.float().contiguous(), offset.float().contiguous()
        thresholds = (factor.data_ptr(), offset.data_ptr(), factor.numel())
    given = (site.address, place.address, x.data_ptr(), planar, *thresholds)
    return given, (x, factor, offset)


def pack_images(
    x: Tensor, site: Site, factor: Tensor | None = None, offset: Tensor | None = None
) -> Packed:
    """Pack images or rows.

    Args:
        x: (images, channels, *size) on the CPU: float32, of which signs or steps are packed, or
            uint8 codes.
        site: of the product that will read them.
        factor, offset: float32, one per channel: for floats, thresholds of factor x + offset.
    """
    images, w, place = x.shape[0], site.w, site.place
    packed = _room(site, images)
    bits, sums = packed.bits.data_ptr(), packed.sums.data_ptr()
    least = 1 + _LEAST_PACKED // (place.pixels * w.groups * w.channels)
    if x.dtype == torch.uint8:
        from ste_lightning.kernels.planar import by_pixel

        codes = by_pixel(x)
        where = (codes.data_ptr(), bits, images * place.image, sums)
        work = _compiled("pack_codes_of")
        share(lambda a, b: work(site.address, place.address, *where, a, b), images, least)
    else:
        require(x.dtype == torch.float32, "dtype", x.dtype, "use float32, or uint8 codes")
        given, _kept = _floats_in(x, site, factor, offset)
        work = _compiled("pack_floats")
        share(lambda a, b: work(*given, bits, sums, a, b), images, least)
    return packed


def products(
    x: Tensor, site: Site, factor: Tensor | None = None, offset: Tensor | None = None
) -> Tensor:
    """Return :func:`floats_of` packed images: by one call where one thread does it all.

    Args:
        x, site, factor, offset: as in :func:`pack_images`.
    """
    w, images = site.w, x.shape[0]
    work = w.work * w.groups * images * site.place.positions
    few = work < 2 * _LEAST_WORK or torch.get_num_threads() == 1
    if not few or x.dtype != torch.float32 or not x.numel():
        return floats_of(site, pack_images(x, site, factor, offset))
    out = torch.empty(images, *site.place.output, site.pitch)
    given, _kept = _floats_in(x, site, factor, offset)
    _compiled(f"{site.place.way}_once")(*given, out.data_ptr(), images)
    return out


def _multiply(name: str, site: Site, packed: Packed, out: Tensor) -> None:
    w, place = site.w, site.place
    work, plane = _compiled(f"{site.place.way}_{name}"), packed.images * place.image
    given = (
        *(site.address, place.address, packed.bits.data_ptr(), plane),
        *(packed.sums.data_ptr(), out.data_ptr()),
    )
    rows, panels = packed.images * place.positions, -(-w.outputs // w.layout.width)
    if rows >= 4 * panels or w.groups > 1 or site.place.way == "gathered":
        least = 1 + _LEAST_WORK // (w.work * w.groups)
        share(lambda a, b: work(*given, a, b, 0, panels), rows, least, 16)
    else:
        least = 1 + _LEAST_WORK * panels // (w.work * rows)
        share(lambda a, b: work(*given, 0, rows, a, b), panels, least)


def floats_of(site: Site, packed: Packed) -> Tensor:
    """Return the products, scaled and shifted, as float32 (images, *output, outputs)."""
    out = torch.empty(packed.images, *site.place.output, site.pitch)
    if out.numel() > 0:
        _multiply("floats", site, packed, out)
    return out


def bits_of(site: Site, packed: Packed) -> Tensor:
    """Return the products as bits, uint8 (images, positions, bytes of a pixel).

    The bits of outputs lie one after the other, the first in the lowest bit of a byte; those
    above the last output are zero.
    """
    out = torch.empty(packed.images, site.place.positions, site.pitch, dtype=torch.uint8)
    if out.numel() > 0:
        _multiply("bits", site, packed, out)
    return out


@dataclass(frozen=True)
class Relay:
    """From bits b of one product to the input of the next: (OR of b xor before) xor after.

    Attributes:
        site: of the next product.
        window: (pixels, taps) int64: for every pixel of its input the bytes, in an image of bits,
            at which the pixels begin that are joined by OR; -1 for none.
        before, after: one bit per channel, whole bytes.
    """

    site: Site
    window: NDArray[np.int64]
    before: NDArray[np.uint8]
    after: NDArray[np.uint8]

    @functools.cached_property
    def _arguments(self) -> tuple[int, ...]:
        arrays = (self.window.ctypes.data, self.window.shape[1])
        return (*arrays, self.before.ctypes.data, self.after.ctypes.data)

    def __call__(self, bits: Tensor) -> Packed:
        """Return bits, as :func:`bits_of` returns them, as the next product reads them."""
        images, positions, wide = bits.shape
        packed = _room(self.site, images)
        given = (
            *(self.site.address, self.site.place.address, bits.data_ptr(), positions * wide),
            *(*self._arguments, packed.bits.data_ptr(), packed.sums.data_ptr()),
        )
        work = _compiled("relay")
        least = 1 + _LEAST_PACKED // (8 * self.window.size * wide)
        share(lambda a, b: work(*given, a, b), images, least)
        return packed
