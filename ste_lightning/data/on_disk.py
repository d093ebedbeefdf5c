"""Pictures that do not fit in memory: decoded when a batch of them is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ste_lightning.data.formats.folders import fitted
from ste_lightning.errors import ConfigurationError

__all__ = ["PicturesOnDisk"]


class PicturesOnDisk:
    """Stands where a tensor of images would: an index gives bytes (N, channels, height, width).

    Args:
        paths: of the pictures.
        size: (height, width) that each is resized to cover and cut to.
        channels: 3 or 1.
    """

    def __init__(self, paths: Sequence[Path], size: tuple[int, int], channels: int) -> None:
        self.paths = np.array([str(path) for path in paths])  # one object for all workers
        self.size, self.channels = size, channels

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.paths)

    @property
    def shape(self) -> tuple[int, ...]:
        """What the tensor's shape would be."""
        return (len(self), self.channels, *self.size)

    def part(self, which: NDArray[np.int64]) -> PicturesOnDisk:
        """Return some of the pictures, still on disk."""
        return PicturesOnDisk([Path(p) for p in self.paths[which]], self.size, self.channels)

    def __getitem__(self, which: Tensor) -> Tensor:
        """Read pictures.

        Raises:
            ConfigurationError: for one that cannot be read, with its name.
        """
        found = []
        for path in self.paths[which.numpy()]:
            try:
                found.append(fitted(Path(path), self.size, self.channels))
            except ConfigurationError as error:
                raise ConfigurationError(f"{path} cannot be read: {error}.") from error
        return torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2).contiguous()
