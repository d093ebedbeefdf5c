"""Training batches that depend on the seed, the epoch and the step alone.

So training goes on after an interruption with the batches that would have come, in the middle of
an epoch as well, and with any number of workers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

__all__ = ["FullBatch", "Minibatches", "Position", "StepLoader"]

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


class Position:
    """Where in the training a loader is.

    Lightning calls ``set_epoch`` of a loader's ``sampler`` before every epoch. A checkpoint at an
    epoch's end needs no more; one in the middle of an epoch also brings the step.

    Attributes:
        epoch: number of the epoch, from 0.
        step: batches of it that have been given.
    """

    def __init__(self) -> None:
        self.epoch, self.step = 0, 0

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of another epoch; stay where we are if it is the present one."""
        if epoch != self.epoch:
            self.epoch, self.step = epoch, 0


class StepLoader:
    """Batches for the steps of one epoch, resumable in the middle of it.

    A batch depends on the data set's seed and the number of the step since the start of
    training, hence neither on the number of workers nor on interruptions. Each pass begins where
    the last one ended; an epoch that is complete is followed by the next one.

    Args:
        dataset: a map from step to batch.
        steps: steps in one epoch.
        num_workers: processes that prepare minibatches; 0: none.
    """

    def __init__(self, dataset: Dataset[Batch], steps: int, num_workers: int = 0) -> None:
        self.dataset, self.steps, self.num_workers = dataset, steps, num_workers
        self.sampler = Position()
        self.batch_sampler = None  # Lightning asks whoever has a sampler for one

    def __len__(self) -> int:
        """Return the number of steps in one epoch."""
        return self.steps

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches that are left of the present epoch, or those of the next one.

        The position is read with the first batch, because Lightning makes its iterator before it
        says which epoch comes.
        """
        at = self.sampler
        if at.step >= self.steps:
            at.set_epoch(at.epoch + 1)
        steps = range(at.epoch * self.steps + at.step, (at.epoch + 1) * self.steps)
        source: Iterator[Batch] = map(self.dataset.__getitem__, steps)
        if self.num_workers:
            source = iter(
                DataLoader(
                    self.dataset,
                    batch_size=None,
                    sampler=steps,
                    num_workers=self.num_workers,
                    generator=torch.Generator(),  # leaves torch's own generator as it is
                )
            )
        for batch in source:
            at.step += 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Return the position, for Lightning's checkpoints."""
        return {"epoch": self.sampler.epoch, "step": self.sampler.step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on at the position of a checkpoint.

        Older checkpoints count steps from the start of training and name no epoch.
        """
        at = self.sampler
        if "epoch" in state:
            at.epoch, at.step = state["epoch"], state["step"]
        else:
            at.epoch, at.step = divmod(state["step"], self.steps)
