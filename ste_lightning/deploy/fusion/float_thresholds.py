"""The codes of a function of floats, element by element, as comparisons with floats.

In float32 too, alpha x + beta rises or falls with x and nothing else. So a code of a batch norm
of x changes at one float for every level, which is found by evaluating the module itself on ever
nearer neighbours: code(bn(x)) is the number of j with s x >= t_j, s = +-1, for every float x below
the largest one, and exactly, since the sign of a difference of two floats is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ste_lightning.deploy.layers.bisection import LARGEST, least, ranked_float
from ste_lightning.deploy.layers.input_quantizers import BinaryInput, LevelsInput

__all__ = ["float_thresholds"]


@torch.no_grad()
def float_thresholds(
    modules: Sequence[Callable[[Tensor], Tensor]],
    quantizer: BinaryInput | LevelsInput,
    channels: int,
    dims: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return s (channels,) and t (count, channels), and the floats just below these.

    Args:
        modules: what is called element by element, in order; each only rises or only falls.
        quantizer: of what they return, with the same thresholds for all channels.
        channels: number of channels, on axis 1.
        dims: number of axes after it.
    """
    count = 1 if isinstance(quantizer, BinaryInput) else quantizer.thresholds.shape[1]

    def codes(key: Tensor) -> Tensor:
        """Return the codes of floats (rows, channels)."""
        x = ranked_float(key)
        if dims > 0:  # as many elements as vector instructions take, like the images to come
            x = x.view(*x.shape, *[1] * dims).repeat(1, 1, 64, *[1] * (dims - 1))
        for module in modules:
            x = module(x)
        found = quantizer.encode(x, 1).int()
        return found.flatten(2)[..., 0] if dims > 0 else found

    ends = torch.tensor([[-LARGEST], [LARGEST]]).expand(2, channels)
    first, last = codes(ends)
    s = torch.where(first > last, -1, 1)
    wanted = torch.arange(1, count + 1)[:, None]
    end = torch.full((count, channels), LARGEST)
    low, high = least(lambda x: codes(s * x) >= wanted, -end - 1, end)
    return s.float(), ranked_float(high), ranked_float(low.clamp_min(-LARGEST))
