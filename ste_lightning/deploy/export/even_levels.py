"""Staircases of equal steps as one rounding, where that gives every code exactly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ste_lightning.deploy.layers.input_quantizers import LevelsInput

__all__ = ["Even", "even", "line"]

_NUDGES = range(-2, 3)  # units in the last place


@dataclass(frozen=True)
class Even:
    """The code of every float x is clip(round((x - before) / step + inside) + zero, 0, count).

    Halves are rounded to even numbers, as ``torch.round`` and ONNX's QuantizeLinear do it.
    """

    step: float
    before: float = 0.0
    inside: int = 0
    zero: int = 0

    def rounded(self, x: Tensor) -> Tensor:
        """Return the code, not clipped."""
        x = x - self.before if self.before else x
        x = x / self.step
        return torch.round(x + self.inside if self.inside else x) + self.zero


def even(quantizer: LevelsInput) -> Even | None:
    """Return such a rounding, ``None`` where none of those tried gives every code.

    Both sides only rise with x, so it is enough to try the thresholds and the floats before them.

    Args:
        quantizer: with the same thresholds for all channels.
    """
    table = quantizer.thresholds
    if len(table) > 1 or bool((quantizer.factor != 1).any()):
        return None
    t = table[0]
    wanted = torch.arange(1, len(t) + 1)
    below = torch.nextafter(t, torch.tensor(-torch.inf))
    for candidate in _candidates(t, wanted, abs(quantizer.scale)):
        at, before = candidate.rounded(t), candidate.rounded(below)
        if bool((at >= wanted).all()) and bool((before < wanted).all()):
            return candidate
    return None


def _candidates(t: Tensor, wanted: Tensor, scale: float) -> Iterator[Even]:
    """Yield roundings with the quantizer's own step, or the mean distance of thresholds."""
    for guess in {scale, float((t[-1] - t[0]) / max(len(t) - 1, 1))}:
        step = torch.tensor(guess, dtype=torch.float32)
        if not 0 < float(step) < torch.inf:
            continue
        center = wanted - 0.5 - t.double() / step.double()
        zero = int(center.mean().round())
        if float((center - zero).abs().max()) > 1e-3:
            continue
        yield from (Even(_next(step, n), zero=zero) for n in _NUDGES)
        yield from (Even(_next(step, n), inside=zero) for n in _NUDGES if zero)
        for kept in (0, (len(t) + 1) // 2):  # whole steps away from a usual grid
            yield Even(float(step), float((kept - zero) * step), zero=kept)


def _next(x: Tensor, count: int) -> float:
    """Return the float that is a count of floats away."""
    return float((x.view(torch.int32) + count).view(torch.float32))


def line(quantizer: LevelsInput, bound: float) -> tuple[Tensor, Tensor] | None:
    """Return a and b such that the code of an integer x is clip(round(a x + b), 0, count).

    With thresholds t_j, the code is j where t_j <= s x < t_(j+1), s = +-1. A line through the
    intervals between the integers around each t_j exists exactly where one goes through each two
    of them, which bounds its slope from both sides.

    Args:
        quantizer: of integers.
        bound: on the size of x.

    Returns:
        Factor and offset per channel, float32, tried at all thresholds; ``None`` without them.
    """
    t = quantizer.thresholds.double()
    high = t.ceil()  # the least integer of code j
    above = torch.where(high > bound, torch.inf, high.clamp_min(-bound))
    under = torch.where(high - 1 < -bound, -torch.inf, (high - 1).clamp_max(bound))
    count = t.shape[1]
    a, b = [], []
    for lower, upper in zip(under, above, strict=True):
        slope = _slope(lower, upper)
        if slope is None:
            return None
        j = torch.arange(1, count + 1)
        least, most = (lower - slope * j).max(), (upper - slope * j).min()
        if not bool(torch.isfinite(least)):
            least = most - 1 if bool(torch.isfinite(most)) else torch.zeros_like(least)
        if not bool(torch.isfinite(most)):
            most = least + 1
        a.append(1 / slope)
        b.append(-(least + most) / 2 / slope - 0.5)
    s = quantizer.factor.double()
    factor, offset = (torch.stack(a) * s).float(), torch.stack(b).float()
    wanted = torch.arange(1, count + 1)

    def codes(x: Tensor) -> Tensor:
        x = (s[:, None] * x).float()
        return torch.round(x * factor[:, None] + offset[:, None]).clamp(0, count)

    reached = (codes(high.clamp_min(-bound)) >= wanted) | (high > bound)
    right = reached & ((codes((high - 1).clamp_max(bound)) < wanted) | (high - 1 < -bound))
    return (factor, offset) if bool(right.all()) else None


def _slope(lower: Tensor, upper: Tensor) -> Tensor | None:
    """Return u per code of a line that passes between the ends for every code."""
    j = torch.arange(len(lower), dtype=torch.float64)
    between = j[None] - j[:, None]
    after = between > 0
    least = torch.where(after, (lower[None] - upper[:, None]) / between, -torch.inf).max()
    most = torch.where(after, (upper[None] - lower[:, None]) / between, torch.inf).min()
    least = least.clamp_min(1e-3)
    if not bool(torch.isfinite(most)):
        most = least + 1
    return (least + most) / 2 if bool(least < most) else None
