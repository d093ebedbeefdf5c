"""Linear layers whose weights have a scale in each group: an integer product per group."""

from __future__ import annotations

import torch
from torch import Tensor

from ste_lightning import kernels
from ste_lightning.deploy.layers.bit_planes import to_codes
from ste_lightning.deploy.layers.input_quantizers import TokenInput
from ste_lightning.deploy.layers.packed_layer import PackedLayer
from ste_lightning.kernels import Geometry, Prepared

__all__ = ["multiplies_groups", "product_of_groups"]

_SHORTEST = 32  # weights of a group; products of fewer take longer than those of floats
_MOST_SUMS = 1 << 20  # that are held at a time
_ONE_PIXEL = Geometry((1,), (1,), ((0, 0),), (1,))


def multiplies_groups(layer: PackedLayer) -> bool:
    """Return whether a layer multiplies integers, group by group of its weights, on this machine.

    Args:
        layer: a linear layer.
    """
    shortest = layer.shape[1] >= _SHORTEST * layer.scales
    if layer.scales < 2 or not shortest or layer.input.codes is None:
        return False
    return layer.weight_bits.device.type == "cpu" and kernels.default_format() != "torch"


def product_of_groups(layer: PackedLayer, rows: Tensor) -> Tensor:
    r"""Return the sum over groups of each group's integers times its scale, plus the bias.

    .. math:: y_o = b_o + \sum_g s_{og} \sum_{i \in g} w_{oi} q(x)_i

    Args:
        layer: for which :func:`multiplies_groups` is true.
        rows: (rows, inputs).

    Returns:
        (rows, outputs), float32; the inner sums are exact.
    """
    weights: Prepared = layer.derived("groups", lambda: _prepare(layer))
    quantizer, token = layer.input, None
    if isinstance(quantizer, TokenInput):
        codes, token = quantizer.encode_tokens(rows.float())
    else:
        codes = quantizer.encode(rows, 1)
    outputs = layer.shape[0]
    most = max(_MOST_SUMS // (layer.scales * outputs), 1)
    parts = [
        kernels.convolve(part.unsqueeze(2), weights, _ONE_PIXEL)
        .view(len(part), layer.scales, outputs)
        .sum(1)
        for part in torch.split(codes, most)
    ]
    y = parts[0] if len(parts) == 1 else torch.cat(parts)
    y = y if token is None else y * token
    return y if layer.bias is None else y + layer.bias


def _prepare(layer: PackedLayer) -> Prepared:
    """Return the weights as those of a convolution of one pixel with as many groups."""
    assert layer.input.codes is not None
    assert layer.scale is not None
    outputs, inputs = layer.shape
    codes = to_codes(layer.weight_bits, layer.weight_codes.bits, layer.shape)
    codes = codes.view(outputs, layer.scales, inputs // layer.scales).transpose(0, 1)
    size = inputs // layer.scales
    return kernels.prepare(
        codes.reshape(layer.scales * outputs, 1, size),
        layer.input.codes,
        layer.weight_codes,
        groups=layer.scales,
        scale=layer.scale.T.flatten() * layer.input_scale(),
        format=kernels.best_format(
            layer.input.codes, layer.weight_codes, layer.scales, size, outputs
        ),
    )
