"""Products by counted bits: inputs are packed once, and bits may pass from product to product."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ste_lightning.errors import require
from ste_lightning.kernels.epilogue.float_head import Tail
from ste_lightning.kernels.gemm.entries import entry_point
from ste_lightning.kernels.jit.threads import share
from ste_lightning.kernels.layout.call_record import Site

__all__ = [
    *("Packed", "Relay", "bits_of", "floats_of", "pack_images", "products", "rows_call"),
    "share_products",
]

_LEAST_WORK = 1 << 22  # bytes of bits x outputs: about 0.1 ms
_LEAST_PACKED = 1 << 17  # bits


# compiled functions, and numba, are imported when the first of them is called
@functools.cache
def _pack_floats() -> Callable[..., None]:
    from ste_lightning.kernels.pack.input_images import pack_floats

    return pack_floats()


@functools.cache
def _pack_codes() -> Callable[..., None]:
    from ste_lightning.kernels.pack.input_images import pack_codes_of

    return pack_codes_of()


@functools.cache
def _relay() -> Callable[..., None]:
    from ste_lightning.kernels.epilogue.or_pool import relay

    return relay()


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
    size = site.planes * images * site.image + 16
    if site.way == "rows":
        size += 7 * site.image
    bits = torch.empty(size, dtype=torch.uint8)
    sums = bits  # any address
    if site.summed:
        sums = torch.empty(images * site.pixels * site.groups, dtype=torch.int32)
    return Packed(bits, sums, images)


_Floats = tuple[Tensor, bool, int, int, int, tuple[Tensor | None, ...]]


def _floats_in(x: Tensor, site: Site, factor: Tensor | None, offset: Tensor | None) -> _Floats:
    """Return how compiled code finds floats and thresholds, and what has to live until then."""
    planar = False
    if site.pixels == 1:
        x = x.contiguous()
    else:
        planar = x.is_contiguous() and not site.summed
        x = x if planar else x.movedim(1, -1).contiguous()
    if factor is None or offset is None:
        return x, planar, 0, 0, 0, ()
    factor, offset = factor.float().contiguous(), offset.float().contiguous()
    return x, planar, factor.data_ptr(), offset.data_ptr(), factor.numel(), (factor, offset)


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
    images = x.shape[0]
    packed = _room(site, images)
    bits, sums = packed.bits.data_ptr(), packed.sums.data_ptr()
    least = 1 + _LEAST_PACKED // (site.pixels * site.channels)
    if x.dtype == torch.uint8:
        from ste_lightning.kernels.pack.transpose import by_pixel

        codes = by_pixel(x)
        where = (site.address, codes.data_ptr(), bits, images * site.image, sums)
        work = _pack_codes()
        share(lambda a, b: work(*where, a, b), images, least)
    else:
        require(x.dtype == torch.float32, "dtype", x.dtype, "use float32, or uint8 codes")
        x, planar, *thresholds, _kept = _floats_in(x, site, factor, offset)
        given = (site.address, x.data_ptr(), planar, *thresholds, bits, sums)
        work = _pack_floats()
        share(lambda a, b: work(*given, a, b), images, least)
    return packed


def products(
    x: Tensor,
    site: Site,
    factor: Tensor | None = None,
    offset: Tensor | None = None,
    tail: Tail | None = None,
) -> Tensor:
    """Return :func:`floats_of` packed images: by one call where one thread does it all.

    Args:
        x, site, factor, offset: as in :func:`pack_images`.
        tail: what becomes of the floats.
    """
    images = x.shape[0]
    few = site.work * images < 2 * _LEAST_WORK or torch.get_num_threads() == 1
    if not few or images == 0 or x.dtype != torch.float32:
        y = floats_of(site, pack_images(x, site, factor, offset))
        return y if tail is None else tail(y)
    x, planar, by, plus, thresholds, _kept = _floats_in(x, site, factor, offset)
    given = (site.address, x.data_ptr(), planar, by, plus, thresholds)
    if tail is not None and tail.small(images):
        out = torch.empty(images, *tail.shape)
        entry_point(site, "finished")(*given, out.data_ptr(), images, tail.address)
        return out
    out = torch.empty(images, *site.output, site.pitch)
    entry_point(site, "once")(*given, out.data_ptr(), images)
    return out if tail is None else tail(out)


def rows_call(
    site: Site, factor: Tensor | None = None, offset: Tensor | None = None
) -> Callable[[Tensor], Tensor | None]:
    """Return :func:`products` of rows with nothing left to look up: for small calls.

    Args:
        site: of a linear layer.
        factor, offset: as in :func:`pack_images`.

    Returns:
        A function of x that returns ``None`` where x is not contiguous float32 (rows, channels) on
        the CPU, has no rows, or so many that threads share it.
    """
    once, empty, dtype = entry_point(site, "once"), torch.empty, torch.float32
    address, channels, pitch = site.address, site.channels, site.pitch
    most, threads = 2 * _LEAST_WORK // max(site.work, 1), torch.get_num_threads
    _, planar, *thresholds, kept = _floats_in(empty(1, channels), site, factor, offset)

    def call(x: Tensor) -> Tensor | None:
        shape = x.shape
        if x.dtype is not dtype or len(shape) != 2 or shape[1] != channels:
            return None
        rows = shape[0]
        if not (x.is_cpu and x.is_contiguous()) or rows == 0 or (rows > most and threads() > 1):
            return None
        out = empty(rows, pitch)
        once(address, x.data_ptr(), planar, *thresholds, out.data_ptr(), rows)
        return out

    call.kept = site, kept  # type: ignore[attr-defined]  # the addresses are theirs
    return call


def _multiply(results: str, site: Site, packed: Packed, out: Tensor) -> None:
    work, plane = entry_point(site, results), packed.images * site.image
    given = (site.address, packed.bits.data_ptr(), plane, packed.sums.data_ptr(), out.data_ptr())
    share_products(functools.partial(work, *given), site, packed.images)


def share_products(work: Callable[..., None], site: Site, images: int) -> None:
    """Share the products of images among threads, by rows or by panels.

    Args:
        work: of (first row, last row, first panel, last panel).
        site: of the product.
        images: how many; one or more.
    """
    rows, panels, total = images * site.positions, site.panels, max(site.work * images, 1)
    if rows >= 4 * panels or site.groups > 1 or site.way == "gathered":
        least = 1 + _LEAST_WORK * rows // total
        share(lambda a, b: work(a, b, 0, panels), rows, least, 16)
    else:
        least = 1 + _LEAST_WORK * panels // total
        share(lambda a, b: work(0, rows, a, b), panels, least)


def floats_of(site: Site, packed: Packed) -> Tensor:
    """Return the products, scaled and shifted, as float32 (images, *output, outputs)."""
    out = torch.empty(packed.images, *site.output, site.pitch)
    if out.numel() > 0:
        _multiply("floats", site, packed, out)
    return out


def bits_of(site: Site, packed: Packed) -> Tensor:
    """Return the products as bits, uint8 (images, positions, bytes of a pixel).

    The bits of outputs lie one after the other, the first in the lowest bit of a byte; those
    above the last output are zero.
    """
    out = torch.empty(packed.images, site.positions, site.pitch, dtype=torch.uint8)
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
            *(self.site.address, bits.data_ptr(), positions * wide),
            *(*self._arguments, packed.bits.data_ptr(), packed.sums.data_ptr()),
        )
        work = _relay()
        least = 1 + _LEAST_PACKED // (8 * self.window.size * wide)
        share(lambda a, b: work(*given, a, b), images, least)
        return packed
