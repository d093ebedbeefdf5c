"""Images that fit in memory: split, augmented and normalized, whole batches at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from ste_lightning.data.augment import Augmentation
from ste_lightning.data.batches import StepLoader
from ste_lightning.data.in_memory import InOrder, evaluation_loader, training_loader
from ste_lightning.data.on_disk import PicturesOnDisk
from ste_lightning.data.split import split
from ste_lightning.data.wrong_labels import check_share, with_wrong_labels
from ste_lightning.errors import require

__all__ = ["ImageData", "Labelled", "picture_size"]

Batch = tuple[Tensor, Tensor]
_ENOUGH = 2048  # pictures, for the mean and deviation of those on disk


class Labelled(NamedTuple):
    """Images uint8 (N, channels, height, width), in memory or on disk; their labels int64 (N,)."""

    images: Tensor | PicturesOnDisk
    labels: Tensor


class _Normalized:
    """Bytes to numbers: (pixel / 255 - mean) / std, per channel, as one multiply-add."""

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        self.factor = (1 / (255 * std)).view(-1, 1, 1)
        self.offset = (-mean / std).view(-1, 1, 1)

    def __call__(self, images: Tensor) -> Tensor:
        return torch.addcmul(self.offset, images.float(), self.factor)


def _changed(
    augmentation: Augmentation,
    normalized: _Normalized,
    classes: int,
    images: Tensor,
    labels: Tensor,
    rng: np.random.Generator,
) -> Batch:
    images = normalized(augmentation.changed(images, rng))
    return augmentation.mixed(images, labels, classes, rng)


class ImageData(L.LightningDataModule):
    """What all image data sets share; a subclass says in :meth:`read` where its images come from.

    Images stay bytes in memory; a batch is gathered, augmented and normalized by a few tensor
    operations. Means and deviations per channel are those of the training part. Batches depend on
    (seed, epoch, step) alone, so that training goes on in the middle of an epoch. Mixed batches
    have targets (batch, classes), probabilities.

    Args:
        batch_size: images per step and process.
        validation: fraction of the training images kept for validation, stratified by class.
        augment: see :class:`~ste_lightning.data.augment.Augmentation`; None: nothing.
        wrong_labels: share of the training labels that are moved to another class at random, by
            ``split_seed``; those of validation and test stay right.
        limit: use so many training images, stratified by class, validation included; None: all.
        split_seed: seed of the split alone, so that seeds of training can be compared on equal
            parts.
        seed: seed of order and augmentation.
        num_workers: processes that prepare batches; 0 is fastest for small images.

    Raises:
        ConfigurationError: for values out of range, a part that would be empty, missing files.
    """

    class_names: tuple[str, ...] = ()

    def __init__(
        self,
        batch_size: int = 128,
        validation: float = 0.1,
        augment: Mapping[str, Any] | None = None,
        wrong_labels: float = 0.0,
        limit: int | None = None,
        split_seed: int = 0,
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        require(batch_size > 0, "batch_size", batch_size, "use a positive integer")
        require(0 < validation < 1, "validation", validation, "use a fraction between 0 and 1")
        require(limit is None or limit > 0, "limit", limit, "use a positive integer, or null")
        require(split_seed >= 0, "split_seed", split_seed, "use a non-negative integer")
        require(seed >= 0, "seed", seed, "use a non-negative integer")
        require(num_workers >= 0, "num_workers", num_workers, "use a non-negative integer")
        self.batch_size, self.validation, self.augment = batch_size, validation, augment
        self.wrong_labels = check_share(wrong_labels)
        self.limit, self.split_seed, self.seed = limit, split_seed, seed
        self.num_workers = num_workers

    def read(self) -> tuple[Labelled, Labelled, tuple[str, ...]]:
        """Return the training images, the test images and the names of the classes."""
        raise TypeError(f"{type(self).__name__} does not say where its images come from")

    def setup(self, stage: str | None = None) -> None:
        """Read, split and measure, once; every stage makes all three parts."""
        if hasattr(self, "train_part"):
            return
        given, self.test_part, self.class_names = self.read()
        height, width = given.images.shape[-2:]
        self.augmentation = Augmentation(self.augment, (height, width))
        chosen = self._limited(given.labels.numpy())
        train, validation = _split(
            chosen, given.labels.numpy(), round(self.validation * len(chosen)), self.split_seed
        )
        images, labels = _some(given, train)
        labels = with_wrong_labels(labels, self.wrong_labels, self.classes, self.split_seed)
        self.train_part = Labelled(images, labels)
        self.validation_part = _some(given, validation)
        require(
            self.batch_size <= len(train),
            "batch_size",
            self.batch_size,
            f"use at most {len(train)}, the number of training images",
        )
        self.mean, self.std = _moments(_sample(self.train_part.images, self.split_seed))
        self._normalized = _Normalized(self.mean, self.std)

    def _limited(self, labels: NDArray[np.int64]) -> NDArray[np.int64]:
        every = np.arange(len(labels))
        if self.limit is None or self.limit == len(labels):
            return every
        require(
            2 * self.classes <= self.limit <= len(labels),
            "limit",
            self.limit,
            f"use {2 * self.classes} to {len(labels)}",
        )
        return _split(every, labels, len(labels) - self.limit, self.split_seed)[0]

    @property
    def classes(self) -> int:
        """Number of classes, known after ``setup``."""
        return len(self.class_names)

    @property
    def preprocessing(self) -> dict[str, Any]:
        """How pixels become inputs (after ``setup``), for packed files and predictions."""
        return {
            "channels": "grey" if self.train_part.images.shape[1] == 1 else "rgb",
            "range": [0, 1],
            "mean": self.mean.tolist(),
            "std": self.std.tolist(),
            "background": 0,
        }

    def train_dataloader(self) -> StepLoader:
        """Return augmented training batches in an order of (seed, epoch)."""
        return training_loader(
            *self.train_part,
            self.batch_size,
            self.seed,
            self.trainer,
            partial(_changed, self.augmentation, self._normalized, self.classes),
            self.num_workers,
        )

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return the validation batches."""
        return evaluation_loader(InOrder(*self.validation_part, self._normalized), self.num_workers)

    def test_dataloader(self) -> DataLoader[Batch]:
        """Return the test batches."""
        return evaluation_loader(InOrder(*self.test_part, self._normalized), self.num_workers)


def picture_size(size: Sequence[int], channels: int) -> tuple[int, int]:
    """Return height and width to which pictures are brought.

    Raises:
        ConfigurationError: for sizes and numbers of channels that cannot be.
    """
    fits = len(size) == 2 and all(type(n) is int and 0 < n <= 4096 for n in size)
    require(fits, "size", list(size), "use [height, width]")
    require(channels in (1, 3), "channels", channels, "use 3 for colours, 1 for grey")
    return size[0], size[1]


def _split(
    which: NDArray[np.int64], labels: NDArray[np.int64], second: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    require(0 < second < len(which), "validation", second, f"there are {len(which)} images")
    return split(which, labels, second, seed)


def _some(given: Labelled, which: NDArray[np.int64]) -> Labelled:
    images = given.images
    chosen = images.part(which) if isinstance(images, PicturesOnDisk) else images[which]
    return Labelled(chosen, given.labels[which])


def _sample(images: Tensor | PicturesOnDisk, seed: int) -> Tensor:
    """Return all images in memory; of those on disk as many as tell the mean."""
    if not isinstance(images, PicturesOnDisk):
        return images
    count = min(_ENOUGH, len(images))
    drawn = np.random.default_rng(seed).choice(len(images), count, replace=False)
    return images[torch.from_numpy(np.sort(drawn))]


def _moments(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and deviation of pixels in 0..1 per channel, from counts of the 256 values."""
    values = torch.arange(256, dtype=torch.float64) / 255
    mean, std = [], []
    for channel in range(images.shape[1]):
        counts = torch.bincount(images[:, channel].flatten(), minlength=256).double()
        share = counts / counts.sum()
        mean.append((share * values).sum())
        std.append((share * (values - mean[-1]) ** 2).sum().sqrt())
    deviation = torch.stack(std)
    return torch.stack(mean).float(), torch.where(deviation > 0, deviation, 1.0).float()
