"""Figures of the two-layer network show the numbers they were given."""

from __future__ import annotations

import io

import pytest
import torch
from matplotlib.figure import Figure

from ste_lightning.errors import ConfigurationError
from ste_lightning.figures.two_layer import recovery_figure, recurrence_figure
from ste_lightning.metrics import Recurrence


def saved(figure: Figure) -> int:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=50)
    return len(buffer.getvalue())


def result(trials: int) -> dict[str, torch.Tensor]:
    metric = Recurrence(trials, trace_steps=100)
    generator = torch.Generator().manual_seed(0)
    for _ in range(100):
        metric.update(torch.randint(3, (trials,), generator=generator))
    visits = metric.compute()
    return {
        "hamming_trace": visits["trace"],
        "fraction_at_teacher": visits["fraction"],
        "return_times": visits["return_times"],
    }


@pytest.mark.parametrize("trials", [1, 2, 9])
def test_recurrence_figure(trials: int) -> None:
    seen = result(trials)
    figure = recurrence_figure(seen, seen["fraction_at_teacher"], steps=60, title="noise")
    assert len(figure.axes) == 5
    dots = figure.axes[3].collections[0].get_offsets()
    assert dots[:, 1].tolist() == pytest.approx(seen["fraction_at_teacher"].view(-1).tolist())
    assert saved(figure) > 1000


def test_recurrence_figure_without_any_return() -> None:
    metric = Recurrence(3, trace_steps=10)
    for _ in range(10):
        metric.update(torch.zeros(3, dtype=torch.int64))
    seen = metric.compute()
    seen |= {"hamming_trace": seen["trace"], "fraction_at_teacher": seen["fraction"]}
    assert saved(recurrence_figure(seen, torch.ones(3))) > 1000


def test_recurrence_figure_needs_a_trace() -> None:
    seen = result(2) | {"hamming_trace": torch.zeros(0, 2)}
    with pytest.raises(ConfigurationError, match="trace_steps=300"):
        recurrence_figure(seen, torch.ones(2))


def test_recovery_figure() -> None:
    figure = recovery_figure([(512, 64, 64), (32, 2, 64), (128, 57, 64)], title="relu")
    line = figure.axes[0].lines[0]
    assert line.get_xdata().tolist() == [32, 128, 512]
    assert line.get_ydata().tolist() == [2 / 64, 57 / 64, 1]
    assert saved(figure) > 1000
    both = recovery_figure([(32, 2, 64), (64, 9, 64)], averaged=[(64, 8, 64), (32, 1, 64)])
    labels = [text.get_text() for text in both.axes[0].get_legend().get_texts()]
    assert labels == ["averaged: majority of all steps", "last iterate"]
    with pytest.raises(ConfigurationError, match="points"):
        recovery_figure([])
