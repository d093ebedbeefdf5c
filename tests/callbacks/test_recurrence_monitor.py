from __future__ import annotations

import csv
import itertools

import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from tiny_training import Tiny, fit, interrupted

from ste_lightning.callbacks import RecurrenceMonitor
from ste_lightning.errors import ConfigurationError
from ste_lightning.metrics.patterns import PatternHistory, pattern_keys, pattern_number


def naive(path: list[int]) -> dict[str, float]:
    escapes = sum(a != b for a, b in itertools.pairwise(path))
    times = []
    for t in range(1, len(path)):
        if path[t] != path[t - 1] and path[t] in path[:t]:
            left = max(s for s in range(t) if path[s] == path[t])
            times.append(t - left - 1)
    return {
        "escape_rate": escapes / (len(path) - 1),
        "return_rate": len(times) / (len(path) - 1),
        "return_time": float(np.mean(times)) if times else np.nan,
        "distinct": len(set(path)),
        "favourite": max(path.count(p) for p in path) / len(path),
    }


def test_history_counts_escapes_returns_and_times() -> None:
    path = [int(i) for i in np.random.default_rng(0).integers(0, 9, 200)]
    history = PatternHistory()
    for number in path[:77]:
        history.update(number)
    other = PatternHistory()
    other.load_state_dict(history.state_dict())
    for number in path[77:]:
        other.update(number)
    assert other.summary() == pytest.approx(naive(path))


def test_history_forgets_the_oldest_patterns() -> None:
    history = PatternHistory(longest=2)
    for number in (1, 2, 3, 1):
        history.update(number)
    assert history.returns == 0
    assert np.isnan(history.summary()["return_time"])
    with pytest.raises(ConfigurationError):
        PatternHistory(longest=1)


def test_one_flip_changes_the_number_and_undoing_it_restores_it() -> None:
    levels = torch.ones(6, 7, dtype=torch.int32)
    keys = pattern_keys(42)
    numbers = set()
    for i in range(42):
        flipped = levels.clone()
        flipped.view(-1)[i] = -1
        numbers.add(int(pattern_number(flipped, keys)))
    assert len(numbers) == 42
    assert int(pattern_number(levels, keys)) not in numbers
    assert torch.equal(keys, pattern_keys(42))


class Signs(RecurrenceMonitor):
    """Keeps the patterns themselves."""

    def on_train_start(self, trainer, pl_module) -> None:
        super().on_train_start(trainer, pl_module)
        self.patterns = [tuple((pl_module.latent(5) >= 0).flatten().tolist())]

    def on_train_batch_end(self, trainer, pl_module, *rest) -> None:
        super().on_train_batch_end(trainer, pl_module, *rest)
        self.patterns.append(tuple((pl_module.latent(5) >= 0).flatten().tolist()))


def test_a_run_is_logged_as_its_patterns_say(tmp_path) -> None:
    monitor = Signs(every=8)
    logger = CSVLogger(tmp_path, name="", version="")
    fit(Tiny(lr=0.3), monitor, epochs=4, logger=logger)
    found = monitor.statistics()["net.5"]
    numbers = {pattern: i for i, pattern in enumerate(dict.fromkeys(monitor.patterns))}
    expected = naive([numbers[p] for p in monitor.patterns])
    assert {k: found[k] for k in expected} == pytest.approx(expected, nan_ok=True)
    with (tmp_path / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["recurrence/escape_rate"]]
    assert [int(row["step"]) for row in rows] == [7, 15, 23, 31]
    flips = [
        np.mean(np.array(a) != np.array(b))
        for a, b in zip(monitor.patterns[24:32], monitor.patterns[25:], strict=True)
    ]
    assert float(rows[-1]["recurrence/flip_ratio/net.5"]) == pytest.approx(np.mean(flips))
    both = [float(rows[-1][f"recurrence/distinct/net.{i}"]) for i in (2, 5)]
    assert float(rows[-1]["recurrence/distinct"]) == pytest.approx(np.mean(both))
    assert 0 <= float(rows[-1]["recurrence/oscillating"]) <= 1


def test_it_resumes_where_it_stopped(tmp_path) -> None:
    def make() -> RecurrenceMonitor:
        return RecurrenceMonitor(every=1000)

    callback = make()
    fit(Tiny(), callback)
    _, other = interrupted(make, tmp_path / "a.ckpt")
    for name, summary in callback.statistics().items():
        assert other.statistics()[name] == pytest.approx(summary, nan_ok=True)


@pytest.mark.parametrize("options", [{"every": 0}, {"longest": 1}])
def test_settings_are_checked(options) -> None:
    with pytest.raises(ConfigurationError):
        RecurrenceMonitor(**options)
