"""What a sample stands for, and an input that fits where no sample was given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ste_lightning.deploy.graph.network import PackedNetwork
from ste_lightning.deploy.layers.embedding import PackedEmbedding
from ste_lightning.deploy.layers.input_quantizers import Input
from ste_lightning.deploy.layers.packed_layer import PackedLayer
from ste_lightning.errors import ConfigurationError

__all__ = ["arguments", "inferred_sample"]

_SIZES = (8, 16, 28, 32, 64, 96, 128, 224, 10, 12, 20, 24, 48, 4, 2, 5, 6, 7, 9, 3)


def arguments(sample: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the positional arguments and keywords that a sample stands for."""
    if isinstance(sample, Mapping):
        return (), {str(key): value for key, value in sample.items()}
    return (sample if isinstance(sample, tuple) else (sample,)), {}


@torch.no_grad()
def inferred_sample(network: PackedNetwork) -> Tensor:
    """Return a batch of two that the network's module takes.

    ``info["input_shape"]`` is tried first, then common sizes for what the first layer reads.

    Raises:
        ConfigurationError: where none of them fits.
    """
    shape = network.info.get("input_shape")
    given = [torch.zeros(2, *shape)] if isinstance(shape, list) and shape else []
    for x in (*given, *_candidates(network.module)):
        try:
            network.module(x)
        except Exception:  # whatever a forward raises on a wrong size
            continue
        return x
    raise ConfigurationError(
        "the network's input is not known: call it once, or give pack() a sample."
    )


def _candidates(module: nn.Module) -> Iterator[Tensor]:
    """Yield inputs for the first module with weights, and for those inside the first container."""
    for part in module.modules():
        if isinstance(part, (nn.Embedding, PackedEmbedding)):
            for length in (6, *_SIZES):
                yield torch.zeros(2, length, dtype=torch.long)
            return
        if isinstance(part, Input):
            continue
        width, axes = _reads(part)
        if width:
            yield from _shaped(width, axes)
            return


def _reads(part: nn.Module) -> tuple[int, int]:
    """Return the channels and spatial axes of what a module with weights reads; 0 for others."""
    if isinstance(part, PackedLayer):
        return part.shape[1] * part.groups, len(part.shape) - 2
    if isinstance(part, nn.Linear):
        return part.in_features, 0
    if isinstance(part, nn.modules.conv._ConvNd):
        return part.in_channels, len(part.kernel_size)
    if isinstance(part, nn.RNNBase):
        return part.input_size, 0
    if isinstance(part, nn.modules.batchnorm._BatchNorm):
        return part.num_features, {"1": 0, "2": 2, "3": 3}[type(part).__name__[-2]]
    return 0, 0


def _shaped(width: int, axes: int) -> Iterator[Tensor]:
    if axes == 0:
        yield torch.zeros(2, width)
        yield torch.zeros(2, 6, width)
        for size in range(1, int(width**0.5) + 1):  # images that are flattened first
            if width % size == 0:
                yield torch.zeros(2, size, width // size)
                root = int((width // size) ** 0.5)
                if root * root * size == width:
                    yield torch.zeros(2, size, root, root)
        return
    for size in _SIZES:
        yield torch.zeros(2, width, *[size] * axes)
