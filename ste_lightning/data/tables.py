"""Rows of a table: numbers and categories in, one class out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from ste_lightning.data.batches import StepLoader
from ste_lightning.data.formats.tables import Column, read_table
from ste_lightning.data.in_memory import InOrder, evaluation_loader, training_loader
from ste_lightning.data.split import split
from ste_lightning.errors import require, unknown

__all__ = ["Table"]

Batch = tuple[Tensor, Tensor]


class Table(L.LightningDataModule):
    """A csv or parquet file, of which one column names the class of a row.

    Numeric columns are standardized by mean and deviation of the training part; a missing number
    becomes the mean. Every other column becomes as many numbers as it has categories in the
    training part, one of them 1 and the rest 0; a category that only other parts have gives zeros.
    Inputs are float32 (batch, features).

    Args:
        path: the file, see :func:`~ste_lightning.data.formats.read_table`.
        target: name of the column with the class; its values, sorted, are the classes.
        leave_out: names of columns not to use, such as numbers of rows.
        categories: names of numeric columns whose numbers are names.
        test: fraction of the rows for testing, stratified by class.
        validation: fraction of the rows for validation, likewise.
        batch_size: rows per step and process.
        split_seed: seed of the parts alone.
        seed: seed of the order.
        num_workers: processes that prepare batches; 0 is fastest.

    Attributes:
        columns: name of every feature, known after ``setup``; ``name=category`` for categories.

    Raises:
        ConfigurationError: for a file that cannot be read, unknown columns, rows without a class,
            and a target whose values are hardly ever the same.
    """

    def __init__(
        self,
        path: str | Path,
        target: str,
        leave_out: Sequence[str] = (),
        categories: Sequence[str] = (),
        test: float = 0.2,
        validation: float = 0.1,
        batch_size: int = 64,
        split_seed: int = 0,
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        require(0 < test < 1, "test", test, "use a fraction between 0 and 1")
        require(0 < validation < 1, "validation", validation, "use a fraction between 0 and 1")
        rest = 1 - validation - test
        require(rest > 0, "validation + test", validation + test, "leave something to train on")
        require(batch_size > 0, "batch_size", batch_size, "use a positive integer")
        require(split_seed >= 0, "split_seed", split_seed, "use a non-negative integer")
        require(seed >= 0, "seed", seed, "use a non-negative integer")
        require(num_workers >= 0, "num_workers", num_workers, "use a non-negative integer")
        self.path, self.target = path, target
        self.leave_out, self.categories = tuple(leave_out), tuple(categories)
        self.test, self.validation, self.batch_size = test, validation, batch_size
        self.split_seed, self.seed, self.num_workers = split_seed, seed, num_workers
        self.class_names: tuple[str, ...] = ()

    def setup(self, stage: str | None = None) -> None:
        """Read, split and measure, once; every stage makes all three parts."""
        if self.class_names:
            return
        table = read_table(self.path)
        for name in (self.target, *self.leave_out, *self.categories):
            if name not in table:
                raise unknown("column", name, table)
        names, labels = _classes(self.target, table.pop(self.target))
        for name in self.leave_out:
            table.pop(name, None)
        require(bool(table), "leave_out", list(self.leave_out), "leave a column to learn from")
        rest, test = _split(np.arange(len(labels)), labels, self.test, self.split_seed)
        share = self.validation / (1 - self.test)
        train, validation = _split(rest, labels, share, self.split_seed)
        fits = self.batch_size <= len(train)
        require(fits, "batch_size", self.batch_size, f"there are {len(train)} rows to train on")
        self.columns: list[str] = []
        features, mean, std = [], [], []
        for name, column in table.items():
            if column.dtype.kind == "f" and name not in self.categories:
                known = column[train][~np.isnan(column[train])]
                middle = float(known.mean()) if len(known) else 0.0
                spread = float(known.std()) if len(known) else 0.0
                mean.append(middle)
                std.append(spread if spread > 0 else 1.0)
                features.append(np.where(np.isnan(column), middle, column)[:, None])
                self.columns.append(name)
            else:
                text = _names(column)
                found = np.unique(text[train])
                mean += [0.0] * len(found)
                std += [1.0] * len(found)
                features.append((text[:, None] == found).astype(np.float64))
                self.columns += [f"{name}={category}" for category in found]
        self.mean, self.std = torch.tensor(mean), torch.tensor(std)
        raw = torch.from_numpy(np.concatenate(features, 1))
        inputs = ((raw - self.mean) / self.std).float()
        targets = torch.from_numpy(labels)
        self.train_part, self.validation_part, self.test_part = (
            InOrder(inputs[which], targets[which]) for which in (train, validation, test)
        )
        self.class_names = names

    @property
    def classes(self) -> int:
        """Number of classes, known after ``setup``."""
        return len(self.class_names)

    @property
    def preprocessing(self) -> dict[str, Any]:
        """How a row of numbers and zeros and ones becomes an input (after ``setup``)."""
        return {"mean": self.mean.tolist(), "std": self.std.tolist()}

    def train_dataloader(self) -> StepLoader:
        """Return training batches in an order of (seed, epoch)."""
        part = self.train_part
        return training_loader(
            part.images,
            part.labels,
            self.batch_size,
            self.seed,
            self.trainer,
            num_workers=self.num_workers,
        )

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return the validation part."""
        return evaluation_loader(self.validation_part, self.num_workers)

    def test_dataloader(self) -> DataLoader[Batch]:
        """Return the test part."""
        return evaluation_loader(self.test_part, self.num_workers)


def _classes(target: str, column: Column) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    missing = np.isnan(column) if column.dtype.kind == "f" else column == ""
    require(not missing.any(), "target", target, f"row {int(missing.argmax()) + 1} has no class")
    values, labels = np.unique(column, return_inverse=True)
    few = 1 < len(values) <= max(2, len(column) // 3)
    require(few, "target", target, f"its {len(column)} rows have {len(values)} different values")
    return tuple(_names(values).tolist()), labels.astype(np.int64)


def _names(column: NDArray[Any]) -> NDArray[np.str_]:
    """Return cells as text, whole numbers without a point."""
    if column.dtype.kind != "f":
        return column.astype(str)
    return np.array(["" if np.isnan(v) else f"{v:.15g}" for v in column.tolist()])


def _split(
    which: NDArray[np.int64], labels: NDArray[np.int64], share: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return split(which, labels, max(1, round(share * len(which))), seed)
