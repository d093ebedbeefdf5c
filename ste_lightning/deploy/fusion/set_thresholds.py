"""A packed layer's thresholds, for all channels alike or for each of them."""

from __future__ import annotations

import torch
from torch import Tensor

from ste_lightning.deploy.layers.input_quantizers import BinaryInput, Input, LevelsInput
from ste_lightning.deploy.layers.packed_layer import PackedLayer

__all__ = ["set_thresholds", "uniform"]


def uniform(quantizer: Input) -> BinaryInput | LevelsInput:
    """Return a quantizer, alike for all channels, for any number of them."""
    assert isinstance(quantizer, (BinaryInput, LevelsInput))
    if isinstance(quantizer, LevelsInput) or quantizer.factor is None:
        return quantizer
    alike = BinaryInput(quantizer.name, 1, quantizer.scale)
    assert alike.factor is not None
    assert alike.offset is not None
    assert quantizer.offset is not None
    alike.factor.copy_(quantizer.factor[:1])
    alike.offset.copy_(quantizer.offset[:1])
    return alike


@torch.no_grad()
def set_thresholds(
    layer: PackedLayer, s: Tensor, t: Tensor, repeats: int = 1, below: Tensor | None = None
) -> None:
    """Let a layer's codes be the number of j with s x >= t_j.

    Args:
        layer: a packed layer with a binary input or one of levels, which is replaced.
        s: -1 or 1, (channels,).
        t: (count, channels), rising.
        repeats: inputs of the layer per channel.
        below: what is just below t, where x may be equal to t; otherwise t itself will do.
    """
    quantizer = layer.input
    s, t = s.repeat_interleave(repeats), t.repeat_interleave(repeats, dim=1)
    if isinstance(quantizer, BinaryInput):
        binary = BinaryInput(quantizer.name, len(s), quantizer.scale)
        bound = t[0]
        if quantizer.name == "step" and below is not None:  # s x - b > 0
            bound = below.repeat_interleave(repeats, dim=1)[0]
        binary.factor, binary.offset = s, -bound
        layer.input = binary
    else:
        assert isinstance(quantizer, LevelsInput)
        assert quantizer.codes is not None
        alike = bool((s == 1).all()) and bool((t == t[:, :1]).all())
        rows, codes = (1 if alike else len(s)), quantizer.codes
        levels = LevelsInput(codes.bits, codes.offset, quantizer.scale, rows, len(t))
        levels.thresholds.copy_(t.T[:rows])
        levels.factor.copy_(s[:rows])
        layer.input = levels
    layer.forget()
