"""Loaders of the teacher-student problem: the same full batch, or minibatches by step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

__all__ = ["FullBatch", "Minibatches", "StepLoader"]

Batch = tuple[Tensor, Tensor]


class FullBatch(Dataset[Batch]):
    """Every step sees the same two tensors: nothing is copied."""

    def __init__(self, Z: Tensor, y: Tensor) -> None:
        self.batch = (Z, y)

    def __getitem__(self, step: int) -> Batch:
        """Return the batch of that step."""
        return self.batch


class Minibatches(Dataset[Batch]):
    """Step t sees ``batch_size`` samples, drawn without replacement by (seed, t), in all trials."""

    def __init__(self, Z: Tensor, y: Tensor, batch_size: int, seed: tuple[int, ...]) -> None:
        self.Z, self.y, self.batch_size, self.seed = Z, y, batch_size, seed

    def __getitem__(self, step: int) -> Batch:
        """Return the batch of that step: (trials, batch_size, m, n), (trials, batch_size)."""
        rng = np.random.default_rng([*self.seed, step])
        picked = rng.choice(self.Z.shape[1], self.batch_size, replace=False)
        index = torch.from_numpy(picked)
        return self.Z.index_select(1, index), self.y.index_select(1, index)


class StepLoader:
    """Batches for the steps of one epoch, resumable in the middle of it.

    A batch depends on the data set's seed and the number of the step since the start of
    training, hence neither on the number of workers nor on interruptions.

    Args:
        dataset: a map from step to batch.
        steps: steps in one epoch.
        num_workers: processes that prepare minibatches; 0: none.
    """

    def __init__(self, dataset: Dataset[Batch], steps: int, num_workers: int = 0) -> None:
        self.dataset, self.steps, self.num_workers = dataset, steps, num_workers
        self._step = 0

    def __len__(self) -> int:
        """Return the number of steps in one epoch."""
        return self.steps

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches of the next epoch."""
        steps = range(self._step, self._step + self.steps)
        source: Iterator[Batch] = map(self.dataset.__getitem__, steps)
        if self.num_workers:
            source = iter(
                DataLoader(
                    self.dataset, batch_size=None, sampler=steps, num_workers=self.num_workers
                )
            )
        for batch in source:
            self._step += 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Return the position, for Lightning's checkpoints."""
        return {"step": self._step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on at the position of a checkpoint."""
        self._step = state["step"]
