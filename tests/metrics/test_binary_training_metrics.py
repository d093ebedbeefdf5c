"""Recovery, recurrence and flip ratio against counts made by hand."""

from __future__ import annotations

import pickle

import pytest
import torch
from torch import Tensor

from ste_lightning.errors import ConfigurationError
from ste_lightning.metrics import FlipRatio, Recovery, Recurrence

TEACHER = torch.tensor([[1.0, -1.0, 1.0], [1.0, 1.0, -1.0]])


def test_recovery_of_last_and_ergodic_iterate() -> None:
    metric = Recovery(trials=2, n=3)
    metric.update(torch.tensor([[0.3, -0.2, 0.1], [1.0, 1.0, -1.0]]), TEACHER)
    metric.update(torch.tensor([[0.3, -0.2, 0.1], [-1.0, 1.0, -1.0]]), TEACHER)
    metric.update(torch.tensor([[-0.3, 0.2, 0.1], [-1.0, 1.0, -1.0]]), TEACHER)
    result = metric.compute()
    assert result["hamming"].tolist() == [2, 1]
    assert result["last"].tolist() == [False, False]
    assert result["ergodic"].tolist() == [True, False]


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_zero_counts_as_plus_one(zero: float) -> None:
    metric = Recovery(trials=1, n=2)
    metric.update(torch.tensor([[zero, zero]]), torch.tensor([[1.0, 1.0]]))
    assert metric.compute()["last"].all()
    tie = Recovery(trials=1, n=1)
    tie.update(torch.tensor([[1.0]]), torch.tensor([[1.0]]))
    tie.update(torch.tensor([[-1.0]]), torch.tensor([[1.0]]))
    assert tie.compute()["ergodic"].all()


def visits(at: str) -> Tensor:
    return torch.tensor([0 if c == "*" else int(c) for c in at])


#        12345678901234
TRIALS = ("21**1*332**1**", "11111111111111", "**************")


def recurrence(**options: int) -> Recurrence:
    metric = Recurrence(trials=3, **options)
    for step in zip(*TRIALS, strict=True):
        metric.update(visits("".join(step)))
    return metric


def test_recurrence_counts_escapes_and_returns() -> None:
    result = recurrence().compute()
    assert result["first_hit"].tolist() == [3, -1, 1]
    assert result["escapes"].tolist() == [3, 0, 0]
    assert result["returns"].tolist() == [3, 0, 0]
    torch.testing.assert_close(result["fraction"], torch.tensor([7 / 14, 0, 1]))
    assert result["mean_return_time"][0] == pytest.approx(5 / 3)
    assert result["mean_return_time"][1:].isnan().all()
    assert result["return_times"][0, :4].tolist() == [2, 0, 1, 0]


def test_burn_in_concerns_the_fraction_alone() -> None:
    result = recurrence(burn_in=10).compute()
    torch.testing.assert_close(result["fraction"], torch.tensor([3 / 4, 0, 1]))
    assert result["escapes"].tolist() == [3, 0, 0]


def test_long_returns_share_the_last_bin_but_keep_the_mean() -> None:
    result = recurrence(longest=2).compute()
    assert result["return_times"][0].tolist() == [2, 1]
    assert result["mean_return_time"][0] == pytest.approx(5 / 3)


def test_the_trace_keeps_the_first_steps() -> None:
    trace = recurrence(trace_steps=5).compute()["trace"]
    assert trace[:, 0].tolist() == [2, 1, 0, 0, 1]
    assert trace.shape == (5, 3)
    short = Recurrence(2, trace_steps=5)
    short.update(torch.tensor([4, 3]))
    assert short.compute()["trace"].tolist() == [[4, 3]]


def test_flip_ratio_is_the_mean_share_of_changed_signs() -> None:
    metric = FlipRatio()
    metric.update(torch.tensor([1.0, -1.0, 0.3, -0.3]))
    assert metric.compute() == 0
    metric.update(torch.tensor([1.0, 1.0, 0.1, -9.0]))
    metric.update(torch.tensor([-1.0, -1.0, 0.1, -9.0]))
    assert metric.compute() == pytest.approx((1 / 4 + 2 / 4) / 2)


def test_flips_across_a_reset_are_seen() -> None:
    metric = FlipRatio()
    metric.update(torch.tensor([1.0, 1.0]))
    metric.update(torch.tensor([1.0, 1.0]))
    metric.reset()
    metric.update(torch.tensor([-1.0, 1.0]))
    assert metric.compute() == 0.5


def test_flip_ratio_does_not_follow_a_tensor_changed_in_place() -> None:
    metric, positive = FlipRatio(), torch.tensor([True, True])
    metric.update(positive)
    positive[0] = False
    metric.update(positive)
    assert metric.compute() == 0.5


def test_counts_survive_a_checkpoint_and_a_pickle() -> None:
    first = recurrence(trace_steps=20)
    second = Recurrence(trials=3, trace_steps=20)
    second.load_state_dict(first.state_dict())
    third = pickle.loads(pickle.dumps(first))
    for metric in (first, second, third):  # updates in place touch nobody else's states
        metric.update(torch.tensor([1, 0, 0]))
    for other in (second, third):
        for name, value in first.compute().items():
            torch.testing.assert_close(other.compute()[name], value, equal_nan=True)


def test_metrics_reset_to_nothing_seen() -> None:
    metric = recurrence()
    metric.reset()
    metric.update(torch.tensor([1, 1, 1]))
    assert not metric.compute()["returns"].any()


def test_calling_a_metric_accumulates_like_update() -> None:
    called, updated = FlipRatio(), FlipRatio()
    for sign in (1.0, -1.0, -1.0, 1.0):
        called(torch.tensor([sign, 1.0]))
        updated.update(torch.tensor([sign, 1.0]))
    assert called.compute() == updated.compute() == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    "options", [{"trials": 0}, {"burn_in": -1}, {"longest": 1}, {"trace_steps": -1}]
)
def test_wrong_settings_are_named(options: dict[str, int]) -> None:
    (name,) = options
    with pytest.raises(ConfigurationError, match=name):
        Recurrence(**({"trials": 1} | options))


def test_recovery_needs_sizes() -> None:
    with pytest.raises(ConfigurationError, match="n=0"):
        Recovery(trials=1, n=0)
