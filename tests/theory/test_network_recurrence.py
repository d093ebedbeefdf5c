"""Signs of a real layer: the balance of the two-layer model meets their times, windows train."""

import pytest
import torch

from ste_lightning.errors import ConfigurationError
from ste_lightning.figures.studies import layer_recurrence_figure
from ste_lightning.theory.network_recurrence import train_recurring_layer
from ste_lightning.theory.network_windows import train_window_network
from ste_lightning.theory.studies.runner import Result

SMALL = {"n": 10, "samples": 600, "trials": 1, "steps": 400, "warm": 150}


def test_held_layers_recur_as_their_drift_predicts_and_others_move_it():
    held = train_recurring_layer(**SMALL)
    assert held["alone"][0] < held["coupled"][0] - 0.1
    assert 0.85 < held["coupled"][0] < 1
    assert held["ceiling"][0] > 0.9
    assert held["expected"] == pytest.approx(held["share"], rel=0.25)
    # Other weights that train change the drift: what was measured before says less.
    free = train_recurring_layer(**{**SMALL, "steps": 200}, batch_size=100, others=True)
    assert free["coupled"][0] < held["coupled"][0]
    figure = layer_recurrence_figure([Result({}, held, 0.0), Result({"others": True}, free, 0.0)])
    assert "all layers train" in figure.axes[0].get_xticklabels()[1].get_text()


def test_a_window_that_hears_nothing_trains_no_first_layer():
    base = {"n": 16, "samples": 400, "trials": 2, "steps": 60}
    deaf, hears = (train_window_network(**base, width=w) for w in (1e-6, 1.0))
    again = train_window_network(**base, width=1.0)
    assert hears == again
    assert torch.tensor(hears["fit"]).mean() < 0.8 * torch.tensor(deaf["fit"]).mean()
    assert all(0 <= share <= 1 for share in hears["accuracy"])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: train_recurring_layer(n=4, steps=1), "steps"),
        (lambda: train_recurring_layer(n=4, warm=0), "warm"),
        (lambda: train_window_network(n=4, steps=0), "steps"),
    ],
)
def test_bad_settings_are_named(call, message):
    with pytest.raises(ConfigurationError, match=message):
        call()
