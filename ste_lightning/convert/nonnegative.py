"""Where a tensor is nonnegative because of a ReLU: the sources, and what keeps the sign."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

__all__ = ["Origins", "Source", "is_relu", "is_relu_name", "joined", "keeps_sign"]

_RELU_MODULES = (nn.ReLU, nn.ReLU6)
_KEEPING_MODULES = (
    nn.Identity, nn.Flatten, nn.Unflatten, nn.Upsample, nn.PixelShuffle, nn.ChannelShuffle,
    nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d,
    nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d,
    nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d,
    nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.ZeroPad1d, nn.ZeroPad2d,
)  # fmt: skip
_KEEPING_FUNCTIONS = frozenset({
    "add", "iadd", "mul", "imul", "cat", "concat", "stack", "mean", "sum", "amax", "max", "amin",
    "min", "clone", "contiguous", "detach", "to", "float", "double", "half", "bfloat16",
    "type_as", "flatten", "unflatten", "view", "reshape", "permute", "transpose", "t", "movedim",
    "squeeze", "unsqueeze", "expand", "repeat", "getitem", "chunk", "split", "unbind", "narrow",
    "roll", "dropout", "dropout1d", "dropout2d", "dropout3d", "feature_dropout", "max_pool1d",
    "max_pool2d", "max_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d",
    "adaptive_avg_pool2d", "adaptive_avg_pool3d", "adaptive_max_pool1d", "adaptive_max_pool2d",
    "interpolate", "pad", "sqrt",
})  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Source:
    """A ReLU.

    Attributes:
        owner: the name of the module in whose ``forward`` it was called; of the ReLU itself
            where it is a module.
        is_module: whether it is an ``nn.ReLU`` that can be exchanged.
        channels: size of axis 1 of its output, where known.
    """

    owner: str
    is_module: bool
    channels: int | None = None


Origins = frozenset[Source]


def is_relu(function: Any) -> bool:
    """Return whether a callable attribute is a ReLU."""
    relus = (torch.relu, nn.functional.relu, torch.relu_, nn.functional.relu6)
    return isinstance(function, _RELU_MODULES) or any(function is relu for relu in relus)


def is_relu_name(function: str) -> bool:
    """Return whether a function of this name, in place or not, is a ReLU."""
    return function.strip("_") in ("relu", "relu6")


def keeps_sign(what: str | nn.Module) -> bool:
    """Return whether a function (by name) or a module makes nonnegatives of nonnegatives."""
    if isinstance(what, nn.Module):
        return type(what) in _KEEPING_MODULES
    return what.strip("_") in _KEEPING_FUNCTIONS


def joined(inputs: Iterable[Origins | None]) -> Origins:
    """Union of the origins, empty as soon as one input may be negative."""
    known = list(inputs)
    if not known or not all(known):
        return frozenset()
    return frozenset().union(*(origins for origins in known if origins))
