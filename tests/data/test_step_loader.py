"""Loaders of the teacher-student problem: full batches, minibatches, fresh test data."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ste_lightning.data import TeacherStudent
from ste_lightning.models import BinaryTwoLayer


def problem(**options: Any) -> TeacherStudent:
    return TeacherStudent(**({"n": 8, "m": 2, "samples": 50, "trials": 3} | options))


def batches(data: TeacherStudent) -> list[torch.Tensor]:
    return [Z for Z, _ in data.train_dataloader()]


def test_a_full_batch_is_the_same_tensors_at_every_step() -> None:
    data = problem(steps_per_epoch=4)
    loader = data.train_dataloader()
    assert len(loader) == 4
    seen = list(loader)
    assert len(seen) == 4
    assert all(Z is data.train_data[0] and y is data.train_data[1] for Z, y in seen)


# More processes than cores, where the machine has one: that is no matter here.
@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
def test_minibatches_depend_on_the_step_alone() -> None:
    options: dict[str, Any] = {"batch_size": 7, "steps_per_epoch": 6}
    alone = batches(problem(**options))
    workers = batches(problem(num_workers=2, **options))
    assert all(torch.equal(a, b) for a, b in zip(alone, workers, strict=True))
    assert alone[0].shape == (3, 7, 2, 8)
    assert not torch.equal(alone[0], alone[1])

    resumed = problem(**options).train_dataloader()
    first = problem(**options).train_dataloader()
    iterator = iter(first)
    for _ in range(4):
        next(iterator)
    resumed.load_state_dict(first.state_dict())
    assert torch.equal(next(iter(resumed))[0], alone[4])


def test_epochs_go_on_with_new_minibatches() -> None:
    loader = problem(batch_size=7, steps_per_epoch=3).train_dataloader()
    first, second = [Z for Z, _ in loader], [Z for Z, _ in loader]
    assert len(first) == len(second) == 3
    assert not torch.equal(first[0], second[0])


def test_test_data_are_fresh_with_the_training_statistics() -> None:
    data = problem(samples=4000, inputs="exponential", normalize="standardize")
    [(Z, y)] = data.test_dataloader()
    assert Z.shape == data.train_data[0].shape
    assert not torch.equal(Z, data.train_data[0])
    assert 0 < Z.mean((1, 2)).abs().max() < 0.1
    model = BinaryTwoLayer(8, 2, 3)
    model.set_teacher(*data.teacher)
    with torch.no_grad():
        model.weight.copy_(data.teacher[0])
    assert (model(Z) - y).abs().max() < 1e-6


def test_a_full_batch_moves_to_a_device_once() -> None:
    data = problem()
    device = torch.device("meta")
    moved = data.transfer_batch_to_device(data.train_data, device, 0)
    again = data.transfer_batch_to_device(data.train_data, device, 0)
    assert moved[0].device == device
    assert moved[0] is again[0]
    assert data.transfer_batch_to_device(data.train_data, torch.device("cpu"), 0) is data.train_data
