"""Packed layers that read codes and return codes, and what is called between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from ste_lightning import kernels
from ste_lightning.deploy.fusion.by_size import BySize
from ste_lightning.deploy.fusion.float_head import HeadPart, tail_of
from ste_lightning.deploy.fusion.operands import reading
from ste_lightning.deploy.fusion.pool_windows import windows
from ste_lightning.deploy.fusion.requantize import Emission
from ste_lightning.deploy.layers.linear_and_conv import PackedConv
from ste_lightning.deploy.layers.packed_layer import PackedLayer
from ste_lightning.kernels import Geometry, Prepared
from ste_lightning.kernels.epilogue.float_head import Tail
from ste_lightning.kernels.gemm.code_calls import code_site, codes_of, pack_for, pooled
from ste_lightning.kernels.layout.call_record import PIXEL, Site

__all__ = ["CodeFlatten", "CodePool", "Coded", "CodedLayer", "Encoder"]


class Coded(NamedTuple):
    """A result as the codes that its readers' quantizers make of it.

    Attributes:
        codes: contiguous uint8 (images, *size, channels); the size of rows is (1,).
    """

    codes: Tensor


class CodeFlatten:
    """Flattening, which codes leave to their reader."""

    def __call__(self, x: Coded, *axes: int) -> Coded:
        """Return the codes as they are."""
        return x


class CodePool:
    """Max pooling of what codes stand for.

    Args:
        pool: the pooling.
        flips: per channel 255 where codes fall as that grows, else 0.
    """

    def __init__(self, pool: nn.Module, flips: NDArray[np.uint8]) -> None:
        self._flips = flips
        self._windows = BySize(lambda size: windows(pool, size, len(flips)))

    def __call__(self, x: Coded) -> Coded:
        """Return the pooled codes."""
        size, window = self._windows[x.codes.shape[1:-1]]
        return Coded(pooled(x.codes, size, window, self._flips))


@dataclass(frozen=True)
class _Run:
    """A coded layer for inputs of one size.

    Attributes:
        w, geometry: its weights and how they read.
        codes: where products become codes.
        tail: what becomes of floats instead.
    """

    w: Prepared
    geometry: Geometry
    codes: Site | None
    tail: Tail | None


class Encoder:
    """Floats as the codes of packed layers with equal quantizers.

    Args:
        layer: one of them.
    """

    def __init__(self, layer: PackedLayer) -> None:
        self._quantizer = layer.input

    def __call__(self, x: Tensor) -> Coded:
        """Return the codes."""
        codes = self._quantizer.encode(x, 1)
        if codes.dim() == 2:
            return Coded(codes.unsqueeze(1))
        from ste_lightning.kernels.pack.transpose import by_pixel

        return Coded(by_pixel(codes))


class CodedLayer:
    """A packed layer, given floats or codes, that returns floats or codes.

    Args:
        layer: one that :func:`~ste_lightning.deploy.fusion.requantize.reads_codes`.
        emission: how its sums become codes; ``None`` for floats.
        tail: float layers after it, which
            :func:`~ste_lightning.deploy.fusion.float_head.tail_length` accepts.
    """

    def __init__(
        self, layer: PackedLayer, emission: Emission | None, tail: Sequence[HeadPart] = ()
    ) -> None:
        self._encoder = Encoder(layer)
        self._layer, self._emission, self._tail = layer, emission, list(tail)
        self._runs = BySize(self._run)

    def __call__(self, x: Tensor | Coded) -> Tensor | Coded:
        """Return the last step's result, as codes where its readers can have them."""
        if not isinstance(x, Coded):
            x = self._encoder(x)
        codes = x.codes
        run: _Run = self._runs[codes.shape[1:-1]]
        if run.codes is not None:
            return Coded(codes_of(run.codes, pack_for(codes, run.codes)))
        if run.geometry is PIXEL:
            y = kernels.linear(codes.flatten(1), run.w)
        else:
            y = kernels.convolve(codes.movedim(-1, 1), run.w, run.geometry)
        if run.tail is None:
            return y if isinstance(self._layer, PackedConv) else y.flatten(1)
        return run.tail(y.movedim(1, -1).contiguous())

    def _run(self, size: tuple[int, ...]) -> _Run:
        layer, emission = self._layer, self._emission
        w, geometry = reading(layer, size)
        codes = tail = None
        if emission is not None:
            steps = (emission.least, emission.falling, int(layer.largest_sum()))
            codes = code_site(w, geometry, size, *steps)
        if self._tail:
            spatial = geometry.output(size) if isinstance(layer, PackedConv) else ()
            tail = tail_of(self._tail, spatial, layer.shape[0])
        return _Run(w, geometry, codes, tail)
