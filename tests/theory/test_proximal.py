"""Proximal descent: the hard ramp is the engine's descent, PARQ's map ends in the sign."""

import math

import pytest
import torch

from ste_lightning.errors import ConfigurationError
from ste_lightning.figures.studies import proximal_figure
from ste_lightning.theory import simulate
from ste_lightning.theory.proximal import RAMPS, train_proximal
from ste_lightning.theory.studies import expand, run, tables

BASE = {"n": 12, "samples": 30, "trials": 12, "steps": 150, "seed": 3}


@pytest.mark.parametrize(("m", "samples"), [(1, 30), (3, 10)])
def test_a_hard_ramp_is_the_straight_through_estimator(m, samples):
    base = {**BASE, "m": m, "samples": samples}
    ours = train_proximal(**base, ramp="hard", lr=0.5, init_scale=0.1)
    engine = simulate(**base, rule="identity", lr=0.5, init_scale=0.1)
    assert ours["last"] == engine.last_recovery.tolist()
    assert ours["ergodic"] == engine.ergodic_recovery.tolist()
    assert ours["distance"] == ((engine.latent >= 0) != (engine.teacher > 0)).sum(1).tolist()
    assert 0 < sum(ours["last"]) < 12


def test_ramps_end_where_they_say():
    assert (RAMPS["parq"](0.0), RAMPS["parq"](1.0)) == (1.0, 0.0)
    assert RAMPS["clip"](0.3) == RAMPS["clip"](1.0) == 1.0


def test_one_step_is_the_proximal_map_of_the_penalty():
    # argmin_w |w - x|^2 / 2 + gamma (|w| - b)_+ for large gamma, by brute force.
    x, b, gamma = torch.linspace(-2, 2, 41), 0.5, 10.0
    w = torch.linspace(-3, 3, 60001)
    cost = (w - x[:, None]).square() / 2 + gamma * (w.abs() - b).clamp(min=0)
    torch.testing.assert_close(w[cost.argmin(1)], x.clamp(-b, b), atol=2e-4, rtol=0)


def test_hardening_beats_rounding_at_the_end(tmp_path):
    base = {"experiment": "proximal", "trials": 12, "steps": 600}
    grid = {"ramp": ["hard", "clip", "parq"], "n": [12, 24], "samples_per_input": [1.0, 3.0, 6.0]}
    results = run(expand(base, grid), tmp_path, workers=1, show=False)
    by_ramp = {
        (t.n, t.group["ramp"]): t.n50_last.value if not math.isnan(t.n50_last.value) else math.inf
        for t in tables.thresholds(results)
    }
    assert by_ramp[24, "hard"] < by_ramp[24, "parq"] < by_ramp[24, "clip"]
    figure = proximal_figure(results)
    assert "PARQ, last" in figure.axes[1].get_legend().get_texts()[2].get_text()


@pytest.mark.parametrize(
    ("wrong", "message"), [({"ramp": "soft"}, "ramp"), ({"steps": 0}, "steps"), ({"lr": 0.0}, "lr")]
)
def test_bad_settings_are_named(wrong, message):
    with pytest.raises(ConfigurationError, match=message):
        train_proximal(**{**BASE, **wrong})
