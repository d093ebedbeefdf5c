"""The figure of convergence shows every trial, their share at the teacher, and the dead ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ste_lightning.errors import ConfigurationError
from ste_lightning.figures import convergence_figure


def test_shows_distance_share_and_dead_trials() -> None:
    trace = torch.tensor([[3, 4], [1, 4], [0, 4]])
    figure = convergence_figure({"hamming_trace": trace, "dead": torch.tensor([0, 1])}, "title")
    distance, share = figure.axes
    median = distance.lines[-1].get_ydata()
    assert np.asarray(median).tolist() == [3.5, 2.5, 2.0]
    assert np.asarray(share.lines[0].get_ydata()).tolist() == [0, 0, 0.5]
    assert share.lines[0].get_label() == "50% at the end, 1 trials dead"


def test_needs_a_trace() -> None:
    empty = {"hamming_trace": torch.empty(0, 2), "dead": torch.zeros(2)}
    with pytest.raises(ConfigurationError, match="trace_steps"):
        convergence_figure(empty)
