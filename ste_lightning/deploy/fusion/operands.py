"""The weights and the geometry with which a packed layer reads images of codes."""

from __future__ import annotations

import math

from ste_lightning.deploy.layers.bit_planes import to_codes
from ste_lightning.deploy.layers.linear_and_conv import PackedConv
from ste_lightning.deploy.layers.packed_layer import PackedLayer
from ste_lightning.kernels import Geometry, Prepared
from ste_lightning.kernels.layout.call_record import PIXEL

__all__ = ["reading"]


def reading(layer: PackedLayer, size: tuple[int, ...]) -> tuple[Prepared, Geometry]:
    """Return weights and geometry for images of a size, stored pixel by pixel.

    A linear layer of a flattened image is a convolution with a kernel of the image's size; of a
    row, a pixel's.
    """
    if isinstance(layer, PackedConv):
        return layer.prepared(), layer.geometry
    if size == (1,):
        return layer.prepared(), PIXEL
    outputs, inputs = layer.shape
    codes = to_codes(layer.weight_bits, layer.weight_codes.bits, layer.shape)
    pixels = math.prod(size)
    w = layer.prepare(codes.view(outputs, inputs // pixels, pixels).movedim(1, 2))
    dims = len(size)
    return w, Geometry(size, (1,) * dims, ((0, 0),) * dims, (1,) * dims)
