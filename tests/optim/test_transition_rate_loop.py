from __future__ import annotations

import numpy as np
import pytest

from ste_lightning.errors import ConfigurationError
from ste_lightning.optim import TransitionRate


def test_the_loop_is_equations_10_and_11() -> None:
    rates = np.random.default_rng(0).uniform(0, 0.05, 200)
    targets = 0.02 * (1 + np.cos(np.pi * np.arange(200) / 200)) / 2
    k, u = 0.0, 0.1
    loop = TransitionRate(0.1, gain=0.5, momentum=0.9)
    for rate, target in zip(rates, targets, strict=True):
        k = 0.9 * k + 0.1 * rate
        u = max(0.0, u + 0.5 * (target - k))
        assert loop.update(rate, target) == pytest.approx(u, abs=1e-15)


def test_it_steers_a_plant_to_the_target() -> None:
    # transitions in proportion to the learning rate, as while latent weights are spread evenly
    loop = TransitionRate(0.1, momentum=0.9)
    for _ in range(5000):
        loop.update(rate=0.5 * loop.lr, target=0.01)
    assert loop.running == pytest.approx(0.01, rel=0.01)
    for _ in range(5000):
        loop.update(rate=0.02, target=0.01)
    assert loop.lr == 0.0


def test_state_resumes() -> None:
    loop, other = TransitionRate(0.1), TransitionRate(0.9, gain=3.0)
    loop.update(0.3, 0.1)
    other.load_state_dict(loop.state_dict())
    assert loop.update(0.2, 0.1) == other.update(0.2, 0.1)


@pytest.mark.parametrize("options", [{"lr": 0.0}, {"lr": 1, "gain": -1}, {"lr": 1, "momentum": 1}])
def test_settings_out_of_range_are_refused(options) -> None:
    with pytest.raises(ConfigurationError):
        TransitionRate(**options)
