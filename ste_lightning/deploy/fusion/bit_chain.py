"""Runs of packed layers between which bits pass instead of floats.

Where a packed layer's integer sums are only compared with thresholds by the next one, they are
compared as they are made: a sum becomes a bit 1[sum >= t], and max pooling over bits is OR. Where
the bit falls as the sum grows it is inverted, before or after the OR. All of it is exact, so a
run's result is that of its layers one by one, which it falls back to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ste_lightning.deploy.fusion.by_size import BySize
from ste_lightning.deploy.fusion.code_layers import Coded
from ste_lightning.deploy.fusion.float_head import HeadPart, tail_of
from ste_lightning.deploy.fusion.operands import reading
from ste_lightning.deploy.fusion.pool_windows import POOLS, windows
from ste_lightning.deploy.fusion.requantize import Emission, emission_for, gives_integers
from ste_lightning.deploy.layers.input_quantizers import BinaryInput
from ste_lightning.deploy.layers.linear_and_conv import PackedConv, PackedLinear
from ste_lightning.deploy.layers.packed_layer import PackedLayer
from ste_lightning.kernels.epilogue.float_head import Tail
from ste_lightning.kernels.gemm.bit_calls import Relay, bits_of, floats_of, products
from ste_lightning.kernels.gemm.code_calls import code_site, codes_of, pack_for
from ste_lightning.kernels.layout.call_record import Site, bit_site, float_site

__all__ = ["Chain", "accepts_bits", "follows"]

_BIT_FORMATS = ("lookup", "bytes", "words")


def accepts_bits(module: nn.Module) -> bool:
    """Return whether a module may be in a run: it multiplies signs or steps by counting bits."""
    if type(module) not in (PackedConv, PackedLinear):
        return False
    assert isinstance(module, PackedLayer)
    padded = getattr(module, "padding_mode", "zeros") == "zeros"
    whole = float(module.pad_level() or 0.0).is_integer()
    binary = isinstance(module.input, BinaryInput) and module.sums_integers
    return binary and padded and whole and module.best_format() in _BIT_FORMATS


def follows(
    before: PackedLayer, between: Sequence[nn.Module], after: PackedLayer
) -> Emission | None:
    """Return how bits pass from one layer of a run to the next, ``None`` if they cannot.

    Args:
        before, after: layers that :func:`accepts_bits` accepts.
        between: what is called between them: at most a pooling, then a flattening.
    """
    kinds = [type(module) for module in between]
    pools = [kind for kind in kinds if kind is not nn.Flatten]
    flat = kinds[len(pools) :] == [nn.Flatten]
    dims = len(before.shape) - 2
    allowed = [[], [POOLS[dims - 1]]] if 0 < dims < 3 else [[]]
    if len(kinds) > len(pools) + flat or pools not in allowed or not gives_integers(before):
        return None
    return emission_for(before, after, flat)


def _bytes(bits: NDArray[np.bool_]) -> NDArray[np.uint8]:
    return np.packbits(bits, bitorder="little")


@dataclass(frozen=True)
class _Link:
    """A layer whose sums become bits, and how the next one reads them."""

    site: Site
    relay: Relay


@dataclass(frozen=True)
class _Run:
    """A chain for inputs of one size.

    Attributes:
        first: where the first layer reads.
        links: all layers but the last.
        last: where the last layer reads and writes floats.
        codes: where it writes codes instead.
        tail: what becomes of those floats.
        images: whether the last layer is a convolution.
        factor, offset: the first layer's thresholds.
    """

    first: Site
    links: list[_Link]
    last: Site
    codes: Site | None
    tail: Tail | None
    images: bool
    factor: Tensor | None
    offset: Tensor | None


class Chain:
    """Packed layers one after the other and what is called between and after them.

    Args:
        modules: packed layers for which :func:`accepts_bits` and :func:`follows` hold, with the
            poolings and flattenings between them, in order.
        tail: float layers after the last one, which
            :func:`~ste_lightning.deploy.fusion.float_head.tail_length` accepts.
        emission: how the last layer's sums become codes, if they do.
    """

    def __init__(
        self,
        modules: Sequence[nn.Module],
        tail: Sequence[HeadPart] = (),
        emission: Emission | None = None,
    ) -> None:
        self._modules = list(modules)
        self.layers = [module for module in modules if isinstance(module, PackedLayer)]
        self._tail, self._emission = list(tail), emission
        self._runs = BySize(self._run)

    def __call__(self, x: Tensor | Coded) -> Tensor | Coded:
        """Return the last step's result, as codes where its readers can have them."""
        if isinstance(x, Coded):
            return self._computed(x.codes, tuple(x.codes.shape[1:-1]))
        return self._computed(x, x.shape[2:])

    def _computed(self, x: Tensor, size: tuple[int, ...]) -> Tensor | Coded:
        """Return the result of floats, or of codes with their channels last."""
        run: _Run = self._runs[size]
        if run.links or run.codes is not None or x.dtype == torch.uint8:
            packed = pack_for(x, run.first, run.factor, run.offset)
            for link in run.links:
                packed = link.relay(bits_of(link.site, packed))
            if run.codes is not None:
                return Coded(codes_of(run.codes, packed))
            y = floats_of(run.last, packed)
            y = y if run.tail is None else run.tail(y)
        else:
            y = products(x, run.last, run.factor, run.offset, run.tail)
        if run.tail is not None:
            return y
        return y.movedim(-1, 1) if run.images else y.flatten(1)

    def _run(self, size: tuple[int, ...]) -> _Run:
        layer = self.layers[0]
        size = size or (1,)
        w, geometry = reading(layer, size)
        first = float_site(w, geometry, size)
        links: list[_Link] = []
        between: list[nn.Module] = []
        for after in self._modules[1:]:
            if not isinstance(after, PackedLayer):
                between.append(after)
                continue
            steps = follows(layer, between, after)
            assert steps is not None
            pool = next((module for module in between if type(module) in POOLS), None)
            site = bit_site(w, geometry, size, steps.least[0])
            size, window = windows(pool, site.output, site.pitch)
            w, geometry = reading(after, size)
            late = steps.flips > 0
            masks = (_bytes(steps.falling ^ late), _bytes(late))
            links.append(_Link(site, Relay(float_site(w, geometry, size), window, *masks)))
            layer, between = after, []
        last = float_site(w, geometry, size)
        quantizer: Any = self.layers[0].input
        images = isinstance(layer, PackedConv)
        codes = None
        if self._emission is not None:
            at = (self._emission.least, self._emission.falling, int(layer.largest_sum()))
            codes = code_site(w, geometry, size, *at)
        rest: Any = (images, quantizer.factor, quantizer.offset)
        if not self._tail:
            return _Run(first, links, last, codes, None, *rest)
        spatial = last.output if images else ()
        after_last = tail_of(self._tail, spatial, layer.shape[0])
        return _Run(first, links, last, codes, after_last, *rest)
