"""The float steps that follow the last packed layer, where one pass can compute them.

A batch norm is applied there as scale x + shift, which rounds otherwise than torch's: within
1e-5, as all floats; so it is never used before another quantizer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ste_lightning.deploy.fusion.batch_norm import norm_line
from ste_lightning.deploy.fusion.pool_windows import POOLS, windows
from ste_lightning.deploy.graph.steps import Ref, Step
from ste_lightning.deploy.graph.uses import Flow
from ste_lightning.kernels.epilogue.float_head import Tail

__all__ = ["HeadPart", "head_length", "head_part", "tail_of"]


class HeadPart(NamedTuple):
    """A float step after the last packed layer.

    Attributes:
        kind: ``"pool"``, ``"norm"``, ``"bound"``, ``"mean"``, ``"flat"`` or ``"linear"``.
        values: the pooling; scale and shift; the bounds; weight and bias.
    """

    kind: str
    values: Any = None


_ORDERS = (
    ("pool", "norm", "bound", "mean", "flat", "linear"),
    ("norm", "bound", "pool", "mean", "flat", "linear"),
)


def head_part(step: Step, flow: Flow, dims: int) -> HeadPart | None:
    """Return what a step is in a head, ``None`` for something else.

    Args:
        step: the step.
        flow: who uses which result.
        dims: the spatial dimensions of the layer before the head.
    """
    if step.op != "function" or not step.args or not isinstance(step.args[0], Ref):
        return None
    part = flow.part(step)
    if 0 < dims < 3 and type(part) is POOLS[dims - 1]:
        return HeadPart("pool", part)
    if type(part) is torch.nn.Flatten:
        return HeadPart("flat") if dims > 0 else None
    name, rest = step.target, step.args[1:]
    if flow.rank(step.args[0].name) not in (dims + 2, 2) or step.kwargs:
        return None
    if name == "batch_norm" and part is not None:
        return HeadPart("norm", _scale_and_shift(rest, flow))
    if name == "relu":
        return HeadPart("bound", (0.0, math.inf))
    if name == "relu6":
        return HeadPart("bound", (0.0, 6.0))
    if name == "hardtanh":
        bounds = [*map(float, rest), *[-1.0, 1.0][len(rest) :]]
        return HeadPart("bound", (bounds[0], bounds[1]))
    if name == f"adaptive_avg_pool{dims}d" and all(n == 1 for n in rest[0]):
        return HeadPart("mean")
    if name == "linear":
        weight = _constant(rest[0], flow)
        bias = _constant(rest[1], flow) if len(rest) > 1 else None
        known = weight is not None and (bias is not None or len(rest) < 2 or rest[1] is None)
        return HeadPart("linear", (weight, bias)) if known else None
    return None


def _constant(value: Any, flow: Flow) -> Tensor | None:
    return flow.constants.get(value.name) if isinstance(value, Ref) else None


def _scale_and_shift(arguments: Sequence[Any], flow: Flow) -> tuple[Tensor, Tensor]:
    weight, bias, mean, variance = (_constant(value, flow) for value in arguments[:4])
    assert mean is not None
    assert variance is not None
    return norm_line(weight, bias, mean, variance, arguments[6])


def head_length(parts: Sequence[HeadPart], dims: int) -> int:
    """Return how many of the steps after a packed layer make a head.

    Args:
        parts: in order.
        dims: the layer's spatial dimensions.
    """
    kinds = [part.kind for part in parts]
    best = 0
    for order in _ORDERS:
        length = place = 0
        while length < len(kinds) and kinds[length] in order[place:]:
            place = order.index(kinds[length], place) + 1
            length += 1
        if dims > 0 and "flat" not in kinds[:length] and kinds[length - 1 : length] == ["linear"]:
            length -= 1  # it multiplies the last axis
        best = max(best, length)
    return best


def tail_of(parts: Sequence[HeadPart], size: tuple[int, ...], channels: int) -> Tail:
    """Return the pass that computes what :func:`head_length` accepted.

    Args:
        parts: the head's.
        size: the spatial size before it; () for rows.
        channels: number of channels.
    """
    found = {part.kind: part.values for part in parts}
    kinds = list(found)
    pooled, window = windows(found.get("pool"), size, channels)
    scale, shift = found.get("norm", (torch.ones(channels), torch.zeros(channels)))
    low, high = found.get("bound", (-math.inf, math.inf))
    late = "pool" in kinds and kinds[0] in ("norm", "bound")
    numbers = (scale.float().numpy(), shift.float().numpy(), low, high)
    shape = (channels, *((1,) * len(size) if "mean" in found else pooled))
    shape = (math.prod(shape),) if "flat" in found else shape
    image = math.prod(size) * channels
    return Tail(window, *numbers, late, "mean" in found, image, shape, *found.get("linear", ()))
