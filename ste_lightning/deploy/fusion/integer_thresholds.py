"""The codes of a function of integers as thresholds, found by evaluating it.

Between a packed layer, whose results are integers k times a scale plus a bias, and the quantizer
of the next one, a network computes element by element: a code is a function of k and the channel.
It is evaluated by the steps themselves: for every integer k where any may change it anyhow, by
bisection where no step can turn back, since rounding keeps order. Where the code
only rises, or only falls, it is the number of j with s k >= t_j, s = +-1, t_j half-integers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ste_lightning.deploy.graph.uses import Elementwise
from ste_lightning.deploy.layers.bisection import least
from ste_lightning.deploy.layers.input_quantizers import BinaryInput, LevelsInput
from ste_lightning.deploy.layers.packed_layer import PackedLayer

__all__ = ["integer_thresholds"]

Quantizer = BinaryInput | LevelsInput
_MOST_VALUES = 1 << 22  # integers x channels, where all are evaluated
_LARGEST_SUM = 1 << 23  # floats hold half-integers up to there


def _largest_integer(layer: PackedLayer) -> int | None:
    """Return a bound on the layer's sums, or None where they are no integers or too large."""
    if not layer.sums_integers or layer.input.kind == "token":
        return None
    if not float(layer.pad_level() or 0.0).is_integer():
        return None
    bound = int(layer.largest_sum())
    return bound if bound <= _LARGEST_SUM else None


@torch.no_grad()
def integer_thresholds(
    producer: PackedLayer, between: Sequence[Elementwise], quantizer: Quantizer
) -> tuple[Tensor, Tensor] | None:
    """Return s (channels,) and t (count, channels), or None where there are no such thresholds.

    Args:
        producer: the layer before; its scale and bias are a part of the function.
        between: what is called element by element, in order.
        quantizer: that of the next layer, with the same thresholds for all channels.
    """
    bound = _largest_integer(producer)
    if bound is None:
        return None
    channels, dims = producer.shape[0], len(producer.shape) - 2
    scale = 1.0 if producer.scale is None else producer.scale
    bias = 0.0 if producer.bias is None else producer.bias
    factor = scale * producer.input_scale()

    def codes(k: Tensor) -> Tensor:
        """Return the codes of integers (rows, channels or 1)."""
        x = k * factor + bias
        x = x.expand(-1, channels).reshape(-1, channels, *[1] * dims)
        for module in between:
            x = module(x)
        return quantizer.encode(x, 1).view(len(k), channels)

    count = 1 if isinstance(quantizer, BinaryInput) else quantizer.thresholds.shape[1]
    if all(part.keeps_order for part in between):
        return _bisected(codes, bound, count, channels)
    if (2 * bound + 1) * channels > _MOST_VALUES:
        return None
    return _scanned(codes, bound, count)


def _bisected(
    codes: Callable[[Tensor], Tensor], bound: int, count: int, channels: int
) -> tuple[Tensor, Tensor]:
    ends = codes(torch.tensor([[-bound], [bound]]).float()).int()
    falls = ends[0] > ends[1]
    s = torch.where(falls, -1, 1)
    wanted = torch.arange(1, count + 1)[:, None]
    # The least x = s k with a code of at least j, among -bound .. bound + 1.
    end = torch.full((count, channels), bound + 1)
    _, high = least(lambda x: codes((s * x).float()).int() >= wanted, -end, end)
    return s.float(), high.float() - 0.5


def _scanned(
    codes: Callable[[Tensor], Tensor], bound: int, count: int
) -> tuple[Tensor, Tensor] | None:
    found = codes(torch.arange(-bound, bound + 1).float()[:, None]).int()
    falls = found[0] > found[-1]
    rising = torch.where(falls, found.flip(0), found)  # of x = s k
    if bool((rising[1:] < rising[:-1]).any()):
        return None
    below = [(rising < j).sum(0) for j in range(1, count + 1)]
    t = torch.stack(below).float() - bound - 0.5
    return torch.where(falls, -1.0, 1.0), t
