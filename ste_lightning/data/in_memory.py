"""Labelled samples: evaluated in order, trained on in an order of (seed, epoch)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ste_lightning.data.batches import StepLoader
from ste_lightning.data.on_disk import PicturesOnDisk
from ste_lightning.errors import require
from ste_lightning.models.streams import Stream

__all__ = ["InOrder", "Shuffled", "evaluation_loader", "training_loader"]

Batch = tuple[Tensor, Tensor]
Indexed = Tensor | PicturesOnDisk  # an index of several gives a tensor
Change = Callable[[Tensor, Tensor, np.random.Generator], Batch]


class InOrder(Dataset[Batch]):
    """Images in memory; a loader fetches a whole batch by one index operation.

    Args:
        images: (N, ...).
        labels: (N,).
        change: what becomes of the images of a batch; None: nothing.
    """

    def __init__(
        self, images: Indexed, labels: Tensor, change: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        self.images, self.labels, self.change = images, labels, change

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    def __getitem__(self, index: int) -> Batch:
        """Return one image and its label."""
        images, labels = self.__getitems__([index])
        return images[0], labels[0]

    def __getitems__(self, indices: list[int]) -> Batch:
        """Return a batch."""
        chosen = torch.as_tensor(indices)
        images = self.images[chosen]
        return images if self.change is None else self.change(images), self.labels[chosen]


class Shuffled(Dataset[Batch]):
    """Step t sees a batch of the order drawn by (seed, epoch), changed as drawn by (seed, t).

    With several processes a batch of all of them is cut into equal parts, one for each. A short
    last batch would disturb batch normalization: it is left out.

    Args:
        images: (N, ...).
        labels: (N,).
        batch_size: images per step and process.
        seed: of order and changes.
        rank, ranks: this process and the number of processes.
        change: maps images, labels and a random generator to a batch; None: nothing.
    """

    def __init__(
        self,
        images: Indexed,
        labels: Tensor,
        batch_size: int,
        seed: int,
        rank: int = 0,
        ranks: int = 1,
        change: Change | None = None,
    ) -> None:
        self.images, self.labels, self.batch_size, self.seed = images, labels, batch_size, seed
        self.rank, self.ranks, self.change = rank, ranks, change
        self.steps = len(labels) // (batch_size * ranks)
        self._epoch, self._order = -1, torch.empty(0)

    def __getitem__(self, step: int) -> Batch:
        """Return the batch of that step since the start of training."""
        epoch, place = divmod(step, self.steps)
        if epoch != self._epoch:
            drawn = np.random.default_rng([self.seed, Stream.BATCHES, epoch])
            self._epoch, self._order = epoch, torch.from_numpy(drawn.permutation(len(self.labels)))
        first = (place * self.ranks + self.rank) * self.batch_size
        chosen = self._order[first : first + self.batch_size]
        images, labels = self.images[chosen], self.labels[chosen]
        if self.change is None:
            return images, labels
        rng = np.random.default_rng([self.seed, Stream.SHIFTS, step, self.rank])
        return self.change(images, labels, rng)


def training_loader(
    images: Indexed,
    labels: Tensor,
    batch_size: int,
    seed: int,
    trainer: L.Trainer | None,
    change: Change | None = None,
    num_workers: int = 0,
) -> StepLoader:
    """Return a loader of :class:`Shuffled` batches; every process of a training has its own.

    Raises:
        ConfigurationError: for a batch that is larger than the data.
    """
    rank, ranks = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
    fits = batch_size * ranks <= len(labels)
    require(
        fits, "batch_size", batch_size, f"{ranks} processes share {len(labels)} training images"
    )
    batches = Shuffled(images, labels, batch_size, seed, rank, ranks, change)
    return StepLoader(batches, batches.steps, num_workers)


def _as_is(batch: Any) -> Any:
    return batch


def evaluation_loader(part: InOrder, num_workers: int = 0) -> DataLoader[Batch]:
    """Return a loader of large batches in order; of smaller ones from disk."""
    return DataLoader(
        part,
        batch_size=128 if isinstance(part.images, PicturesOnDisk) else 1024,
        collate_fn=_as_is,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
    )
