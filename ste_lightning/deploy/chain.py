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

from ste_lightning.deploy.bits import to_codes
from ste_lightning.deploy.inputs import BinaryInput
from ste_lightning.deploy.layers import PackedConv, PackedLayer, PackedLinear
from ste_lightning.deploy.tail import tail_of
from ste_lightning.deploy.windows import POOLS, windows
from ste_lightning.kernels import Geometry, Prepared
from ste_lightning.kernels.chain import Relay, bits_of, floats_of, pack_images, products
from ste_lightning.kernels.site import PIXEL, Site, bit_site, float_site
from ste_lightning.kernels.tail import Tail

__all__ = ["Chain", "accepts_bits", "follows"]

_BIT_FORMATS = ("lookup", "bytes", "words")
_NEVER = 1 << 30


def accepts_bits(module: nn.Module) -> bool:
    """Return whether a module may be in a run: it multiplies signs or steps by counting bits."""
    if type(module) not in (PackedConv, PackedLinear):
        return False
    assert isinstance(module, PackedLayer)
    padded = getattr(module, "padding_mode", "zeros") == "zeros"
    whole = float(module.pad_level() or 0.0).is_integer()
    binary = isinstance(module.input, BinaryInput)
    return binary and padded and whole and module.best_format() in _BIT_FORMATS


def follows(before: PackedLayer, between: Sequence[nn.Module], after: PackedLayer) -> bool:
    """Return whether bits can pass from one layer of a run to the next.

    Args:
        before, after: layers that :func:`accepts_bits` accepts.
        between: what is called between them: at most a pooling, then a flattening.
    """
    if before.bias is not None or before.input_scale() != 1.0:
        return False
    if before.scale is not None and not bool((before.scale.abs() == 1).all()):
        return False
    kinds = [type(module) for module in between]
    pools = [kind for kind in kinds if kind is not nn.Flatten]
    flat = kinds[len(pools) :] == [nn.Flatten]
    dims, outputs, inputs = len(before.shape) - 2, before.shape[0], after.shape[1] * after.groups
    if len(kinds) > len(pools) + flat or pools not in (
        [],
        [POOLS[dims - 1]] if 0 < dims < 3 else [],
    ):
        return False
    if len(after.shape) - 2 != (0 if flat else dims) or (flat and dims == 0):
        return False
    if inputs % outputs if flat else inputs != outputs:
        return False
    assert isinstance(after.input, BinaryInput)
    factor, offset = after.input.factor, after.input.offset
    if factor is None or offset is None:
        return True
    if factor.numel() != inputs or offset.numel() != inputs:
        return False
    per_channel = [value.view(outputs, -1) for value in (factor, offset)]
    alike = all(bool((value == value[:, :1]).all()) for value in per_channel)
    return alike and bool(((factor == 0) | (factor.abs() == 1)).all())


@dataclass(frozen=True)
class _Threshold:
    """bit = (OR over a window of [y >= least] xor before) xor after, per output."""

    least: NDArray[np.int64]
    before: NDArray[np.bool_]
    after: NDArray[np.bool_]


def _threshold(before: PackedLayer, quantizer: BinaryInput) -> _Threshold:
    """Return the thresholds of integer sums y, whose largest ``scale * y`` is then quantized."""
    outputs, strict = before.shape[0], quantizer.name == "step"
    s, b = np.ones(outputs), np.zeros(outputs)
    if quantizer.factor is not None and quantizer.offset is not None:
        s = quantizer.factor.view(outputs, -1)[:, 0].double().numpy()
        b = quantizer.offset.view(outputs, -1)[:, 0].double().numpy()
    rising = np.floor(-b) + 1 if strict else np.ceil(-b)
    falling = np.ceil(b) if strict else np.floor(b) + 1
    bound = np.select([s > 0, s < 0], [rising, falling], _NEVER)
    bound = np.clip(bound, -_NEVER, _NEVER).astype(np.int64)
    after = np.select([s > 0, s < 0], [False, True], b > 0 if strict else b >= 0)
    negative = np.zeros(outputs, bool)
    if before.scale is not None:
        negative = before.scale.numpy() < 0
    return _Threshold(np.where(negative, 1 - bound, bound), negative, after)


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
        tail: what becomes of those.
        images: whether the last layer is a convolution.
        factor, offset: the first layer's thresholds.
        layers, states: the layers, and in which states this was made of them.
    """

    first: Site
    links: list[_Link]
    last: Site
    tail: Tail | None
    images: bool
    factor: Tensor | None
    offset: Tensor | None
    layers: list[PackedLayer]
    states: list[object]

    def current(self) -> bool:
        """Return whether the layers are what they were."""
        for layer, state in zip(self.layers, self.states, strict=True):
            if layer.state is not state:
                return False
        return True


class Chain:
    """Packed layers one after the other and what is called between and after them.

    Args:
        modules: packed layers for which :func:`accepts_bits` and :func:`follows` hold, with the
            poolings and flattenings between them, in order.
        tail: float layers after the last one, which
            :func:`~ste_lightning.deploy.tail.tail_length` accepts.
    """

    def __init__(self, modules: Sequence[nn.Module], tail: Sequence[nn.Module] = ()) -> None:
        self.modules = [*modules, *tail]
        self.layers = [module for module in modules if isinstance(module, PackedLayer)]
        self.tail = list(tail)
        first = self.layers[0]
        self._axes, self._channels = len(first.shape), first.shape[1] * first.groups
        self._on_cpu = all(layer.weight_bits.device.type == "cpu" for layer in self.layers)
        self._runs: dict[tuple[int, ...], _Run] = {}

    def _applies(self, x: Tensor) -> bool:
        """Return whether packed bits can be used for an input, and nobody watches the modules."""
        shape = x.shape
        if len(shape) != self._axes or shape[1] != self._channels or not self._on_cpu:
            return False
        for module in self.modules:
            if module._forward_hooks or module._forward_pre_hooks:
                return False
        return x.dtype == torch.float32 and x.device.type == "cpu"

    def __call__(self, x: Tensor) -> Tensor:
        """Return the last module's result."""
        if not self._applies(x):
            for module in self.modules:
                x = module(x)
            return x
        size = x.shape[2:]
        run = self._runs.get(size)
        if run is None or not run.current():
            if len(self._runs) >= 64:
                self._runs.clear()
            run = self._runs[size] = self._run(tuple(size))
        if run.links:
            packed = pack_images(x, run.first, run.factor, run.offset)
            for link in run.links:
                packed = link.relay(bits_of(link.site, packed))
            y = floats_of(run.last, packed)
            y = y if run.tail is None else run.tail(y)
        else:
            y = products(x, run.last, run.factor, run.offset, run.tail)
        if run.tail is not None:
            return y
        return y.movedim(-1, 1) if run.images else y.flatten(1)

    def _run(self, size: tuple[int, ...]) -> _Run:
        states = [layer.state for layer in self.layers]
        layer = self.layers[0]
        w = layer.prepared()
        geometry = layer.geometry if isinstance(layer, PackedConv) else PIXEL
        size = size or (1,)
        first = float_site(w, geometry, size)
        links: list[_Link] = []
        pool: nn.Module | None = None
        for after in self.modules[1 : len(self.modules) - len(self.tail)]:
            if not isinstance(after, PackedLayer):
                pool = after if type(after) in POOLS else pool
                continue
            assert isinstance(after.input, BinaryInput)
            threshold = _threshold(layer, after.input)
            site = bit_site(w, geometry, size, threshold.least)
            size, window = windows(pool, site.output, site.pitch)
            w, geometry = _reading(after, size)
            masks = (_bytes(threshold.before), _bytes(threshold.after))
            links.append(_Link(site, Relay(float_site(w, geometry, size), window, *masks)))
            layer, pool = after, None
        last = float_site(w, geometry, size)
        quantizer: Any = self.layers[0].input
        images = isinstance(layer, PackedConv)
        rest: Any = (images, quantizer.factor, quantizer.offset, self.layers, states)
        if not self.tail:
            return _Run(first, links, last, None, *rest)
        spatial = last.output if images else ()
        return _Run(first, links, last, tail_of(self.tail, spatial, layer.shape[0]), *rest)


def _reading(layer: PackedLayer, size: tuple[int, ...]) -> tuple[Prepared, Geometry]:
    """Return the weights and the geometry with which a layer reads images of bits.

    A linear layer of a flattened image is a convolution with a kernel of the image's size.
    """
    if isinstance(layer, PackedConv):
        return layer.prepared(), layer.geometry
    if size == (1,):
        return layer.prepared(), PIXEL
    outputs, inputs = layer.shape
    codes = to_codes(layer.weight_bits, layer.weight_codes.bits, layer.shape)
    pixels = int(np.prod(size))
    w = layer.prepare(codes.view(outputs, inputs // pixels, pixels).movedim(1, 2))
    dims = len(size)
    return w, Geometry(size, (1,) * dims, ((0, 0),) * dims, (1,) * dims)
