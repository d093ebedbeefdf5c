"""The thresholds of a quantizer that acts on each element by itself, found by evaluating it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ste_lightning.deploy.layers.bisection import LARGEST, least, ranked_float
from ste_lightning.deploy.layers.input_quantizers import BinaryInput, Input, LevelsInput
from ste_lightning.errors import ConfigurationError

__all__ = ["is_static", "staircase_input"]


def is_static(quantizer: nn.Module) -> bool:
    """Return whether the levels of an element do not depend on the other elements."""
    q: Any = quantizer
    probe = torch.linspace(-3, 3, 61)
    alone, scale = q.integer_levels(probe)
    beside, scale_beside = q.integer_levels(torch.cat([probe, 100 * probe]))
    return (
        scale.numel() == 1
        and scale_beside.numel() == 1
        and bool(scale.flatten() == scale_beside.flatten())
        and torch.equal(alone, beside[: len(probe)])
    )


def staircase_input(quantizer: nn.Module, channels: int) -> Input:
    """Return the input quantizer with the same levels for every float32.

    Args:
        quantizer: a static quantizer, in eval mode.
        channels: the layer's input channels.

    Raises:
        ConfigurationError: for a map that is not a rising staircase of at most 256 levels.
    """
    q: Any = quantizer
    ends, scale = q.integer_levels(ranked_float(torch.tensor([-LARGEST, LARGEST])))
    low, high = int(ends[0]), int(ends[1])
    worth = float(scale)
    if not low < high < low + 256:
        raise ConfigurationError(
            f"its input quantizer {type(quantizer).__name__} maps to levels {low}..{high}; packed "
            "layers know rising staircases of 2 to 256 levels"
        )
    wanted = torch.arange(low + 1, high + 1)
    end = torch.full((high - low,), LARGEST, dtype=torch.int64)
    below, above = least(lambda x: q.integer_levels(ranked_float(x))[0] >= wanted, -end, end)
    thresholds = ranked_float(above)
    _check(q, thresholds, low, quantizer)
    if len(torch.unique(thresholds)) == 1 and (low, high) in ((-1, 1), (0, 1)):
        binary = BinaryInput("sign" if low < 0 else "step", channels, worth)
        assert binary.offset is not None
        # sign: x - t >= 0; step: x - (the float before t) > 0.
        binary.offset.fill_(float(-thresholds[0] if low < 0 else -ranked_float(below)[0]))
        return binary
    levels = LevelsInput((high - low).bit_length(), low, worth, 1, len(thresholds))
    levels.thresholds[0] = thresholds
    return levels


def _check(q: Any, thresholds: Tensor, low: int, quantizer: nn.Module) -> None:
    """Compare with the quantizer where bisection could have been misled."""
    spread = float(thresholds.abs().max()) + 1.0
    probe = torch.cat([thresholds, torch.linspace(-2 * spread, 2 * spread, 4001)])
    expected = q.integer_levels(probe)[0]
    if not torch.equal(low + torch.bucketize(probe, thresholds, right=True), expected.long()):
        raise ConfigurationError(
            f"its input quantizer {type(quantizer).__name__} is not a rising staircase"
        )
