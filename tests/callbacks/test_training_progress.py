"""One bar over a whole training."""

from __future__ import annotations

from typing import Any

import pytest
import tiny_training as tiny
from rich.progress import Progress

from ste_lightning.callbacks import TrainingProgress
from ste_lightning.io import progress


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Progress]:
    """Draw as on a terminal; returns the bars that were begun."""
    begun: list[Progress] = []
    start = Progress.start

    def noted(self: Progress) -> None:
        begun.append(self)
        start(self)

    monkeypatch.setattr(progress, "on_terminal", lambda: True)
    monkeypatch.setattr(Progress, "start", noted)
    return begun


@pytest.mark.parametrize(
    ("options", "total"),
    [
        ({}, 3 * 8),
        ({"max_steps": 5}, 5),
        ({"max_steps": 5, "accumulate_grad_batches": 2}, 10),
        ({"epochs": -1, "max_time": "00:00:00:01"}, None),
    ],
)
def test_the_bar_counts_the_batches_of_all_epochs(
    drawn: list[Progress], options: dict[str, Any], total: int | None
) -> None:
    loader = tiny.data()
    tiny.trainer([TrainingProgress()], **options, enable_progress_bar=True).fit(tiny.Tiny(), loader)
    (bar,) = drawn
    assert bar.tasks[0].total == total
    assert bar.live._started is False  # the terminal is free again
    if total is not None:
        assert bar.tasks[0].completed == total
        assert bar.tasks[0].description.startswith("epoch ")


def test_a_bar_that_is_disabled_is_not_drawn(drawn: list[Progress]) -> None:
    bar = TrainingProgress()
    bar.disable()
    tiny.trainer([bar], epochs=1, enable_progress_bar=True).fit(tiny.Tiny(), tiny.data())
    assert drawn == []
    bar.enable()
    tiny.trainer([bar], epochs=1, enable_progress_bar=True).fit(tiny.Tiny(), tiny.data())
    assert len(drawn) == 1


def test_an_error_leaves_the_terminal_free(drawn: list[Progress]) -> None:
    class Breaks(tiny.Tiny):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        tiny.trainer([TrainingProgress()], enable_progress_bar=True).fit(Breaks(), tiny.data())
    assert drawn[0].live._started is False
