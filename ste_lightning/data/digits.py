"""Real handwritten digits that ship with scikit-learn: 1797 images of 8 x 8 pixels, 10 classes."""

from __future__ import annotations

from functools import partial
from typing import Any

import lightning as L
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor
from torch.utils.data import DataLoader

from ste_lightning.data.batches import StepLoader
from ste_lightning.data.in_memory import InOrder, evaluation_loader, training_loader
from ste_lightning.data.wrong_labels import check_share, with_wrong_labels
from ste_lightning.errors import require

__all__ = ["Digits"]

Batch = tuple[Tensor, Tensor]


def _shifted(most: int, images: Tensor, labels: Tensor, rng: np.random.Generator) -> Batch:
    """Move every image by up to ``most`` pixels in both directions; the edge pixels repeat."""
    height, width = images.shape[-2:]
    moves = torch.from_numpy(rng.integers(-most, most + 1, (2, len(images), 1)))
    rows = (torch.arange(height) + moves[0]).clamp(0, height - 1)
    columns = (torch.arange(width) + moves[1]).clamp(0, width - 1)
    which = torch.arange(len(images))[:, None, None]
    return images[:, 0][which, rows[:, :, None], columns[:, None, :]].unsqueeze(1), labels


class Digits(L.LightningDataModule):
    """Stratified train, validation and test parts of scikit-learn's digits.

    Images have shape (batch, 1, 8, 8), are float32 and standardized with the mean and the
    standard deviation over all pixels of the *training* part; labels are int64 in 0..9.

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI (1998), as
    shipped with scikit-learn.

    Args:
        batch_size: images per step.
        validation: fraction of all images for validation.
        test: fraction of all images for testing.
        shift: training images move by up to this many pixels in both directions; 0 = never.
        wrong_labels: share of the training labels that are moved to another class at random, by
            ``seed``; those of validation and test stay right.
        seed: seed of the split, of the order and of the moves. The same seed gives the same
            parts and the same batches on every machine, also after an interruption.
        num_workers: worker processes of the loaders; the data are in memory, so 0 is fastest.

    Raises:
        ConfigurationError: for sizes or fractions that leave a part empty.
    """

    classes = 10

    def __init__(
        self,
        batch_size: int = 64,
        validation: float = 0.1,
        test: float = 0.2,
        shift: int = 0,
        wrong_labels: float = 0.0,
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        require(batch_size > 0, "batch_size", batch_size, "use a positive integer")
        require(0 < validation < 1, "validation", validation, "use a fraction between 0 and 1")
        require(0 < test < 1, "test", test, "use a fraction between 0 and 1")
        require(
            1 - validation - test >= 0.01,
            "validation + test",
            validation + test,
            "leave at least 1 % of the images for training",
        )
        require(0 <= shift < 8, "shift", shift, "use 0 to 7 pixels")
        require(seed >= 0, "seed", seed, "use a non-negative integer")
        require(num_workers >= 0, "num_workers", num_workers, "use a non-negative integer")
        self.batch_size, self.shift, self.num_workers = batch_size, shift, num_workers
        self.wrong_labels = check_share(wrong_labels)
        self.validation, self.test, self.seed = validation, test, seed

    def setup(self, stage: str | None = None) -> None:
        """Load, split and standardize; every stage makes all three parts, which is cheap."""
        pixels, labels = load_digits(return_X_y=True)
        rest, test = train_test_split(
            np.arange(len(labels)), test_size=self.test, stratify=labels, random_state=self.seed
        )
        train, validation = train_test_split(
            rest,
            test_size=self.validation / (1 - self.test),
            stratify=labels[rest],
            random_state=self.seed,
        )
        images = torch.from_numpy(pixels).float().reshape(-1, 1, 8, 8)
        self.mean, self.std = images[train].mean(), images[train].std()
        require(
            self.batch_size <= len(train),
            "batch_size",
            self.batch_size,
            f"use at most {len(train)}, the number of training images",
        )
        images = (images - self.mean) / self.std
        target = torch.from_numpy(labels)
        given = with_wrong_labels(target[train], self.wrong_labels, self.classes, self.seed)
        self.train_part = InOrder(images[train], given)
        self.validation_part = InOrder(images[validation], target[validation])
        self.test_part = InOrder(images[test], target[test])

    @property
    def preprocessing(self) -> dict[str, Any]:
        """How pixels become inputs (after ``setup``): black is 0 and white 16.

        The data set's own pixels are counts over 4 x 4 blocks of bits, so larger pictures are
        averaged over boxes.
        """
        return {
            "channels": "grey",
            "range": [0, 16],
            "mean": [float(self.mean)],
            "std": [float(self.std)],
            "interpolation": "box",
            "background": 0,
        }

    def train_dataloader(self) -> StepLoader:
        """Return shuffled, augmented training batches, which depend on seed, epoch and step.

        Every process of a distributed training is given batches of its own.
        """
        part = self.train_part
        return training_loader(
            part.images,
            part.labels,
            self.batch_size,
            self.seed,
            self.trainer,
            partial(_shifted, self.shift) if self.shift else None,
            self.num_workers,
        )

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return the validation batches."""
        return evaluation_loader(self.validation_part, self.num_workers)

    def test_dataloader(self) -> DataLoader[Batch]:
        """Return the test batches."""
        return evaluation_loader(self.test_part, self.num_workers)
