"""The sign of a batch norm of floats as a comparison with one float per channel.

In float32 too, alpha x + beta rises or falls with x and nothing else. So the sign of a batch norm
changes at one float, which is found by evaluating the module itself on ever nearer neighbours:
sign(bn(x)) = sign(s x + b) with s = +-1 for every float x, since the sign of a difference of two
floats is exact.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ste_lightning.deploy.inputs import BinaryInput

__all__ = ["float_threshold"]

_LARGEST = torch.finfo(torch.float32).max


def _float(key: Tensor) -> Tensor:
    """Return the float whose place in the order of all floats, from zero, is ``key``."""
    magnitude = key.abs().to(torch.int32).view(torch.float32)
    return torch.where(key < 0, -magnitude, magnitude)


@torch.no_grad()
def float_threshold(norm: nn.Module, quantizer: BinaryInput) -> tuple[Tensor, Tensor]:
    """Return s and b per channel such that the quantizer of s x + b is that of ``norm(x)``.

    Args:
        norm: a batch norm in eval mode.
        quantizer: sign or step, without thresholds.
    """
    channels = int(norm.num_features)  # type: ignore[arg-type]
    dims = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d).index(type(norm)) + 1

    def bit(key: Tensor) -> Tensor:
        # As many elements as vector instructions take, like the images to come.
        x = _float(key).view(1, channels, *[1] * dims).repeat(1, 1, 64, *[1] * (dims - 1))
        return quantizer.encode(norm(x), 1)[0].reshape(channels, -1)[:, 0].bool()

    largest = int(torch.tensor(_LARGEST).view(torch.int32))
    low = torch.full((channels,), -largest, dtype=torch.int64)
    high = -low
    first, last = bit(low), bit(high)
    constant = first == last
    for _ in range(33):
        middle = (low + high) // 2
        as_first = bit(middle) == first
        low = torch.where(as_first, middle, low)
        high = torch.where(as_first, high, middle)
    # The bit is ``first`` up to the float ``low`` and ``last`` from its neighbour ``high``.
    strict = quantizer.name == "step"
    rising, falling = _float(low if strict else high), _float(high if strict else low)
    factor = torch.where(last, 1.0, -1.0)
    offset = torch.where(last, -rising, falling)
    factor = torch.where(constant, 0.0, factor)
    offset = torch.where(constant, torch.where(first, 1.0, -1.0), offset)
    return factor, offset
