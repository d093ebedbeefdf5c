from __future__ import annotations

from typing import Any

import lightning as L
import pytest
import torch
from tiny_training import Tiny, fit, interrupted

from ste_lightning.callbacks import TransitionRateScheduling
from ste_lightning.errors import ConfigurationError


class Record(L.Callback):
    def __init__(self) -> None:
        self.signs: list[torch.Tensor] = []
        self.rates: list[tuple[float, float]] = []

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        groups = {g["name"]: g["lr"] for g in optimizer.param_groups}
        self.rates.append((groups["latent"], groups["no_decay"]))
        latent = torch.cat([pl_module.latent(i).detach().flatten() for i in (2, 5)])
        self.signs.append(latent >= 0)


def test_the_learning_rate_follows_the_counted_transitions() -> None:
    record = Record()
    fit(Tiny(), TransitionRateScheduling(target=0.02, final=0.02, gain=2.0), record, epochs=4)
    running, lr = 0.0, 0.05
    for step in range(1, len(record.signs)):
        share = (record.signs[step] != record.signs[step - 1]).float().mean().item()
        running = 0.99 * running + 0.01 * share
        lr = max(0.0, lr + 2.0 * (0.02 - running))
        assert record.rates[step][0] == pytest.approx(lr, abs=1e-7)
        assert record.rates[step][1] == 0.05
    assert lr != 0.05


def test_a_target_of_zero_brings_the_flips_to_rest() -> None:
    quiet, free = Record(), Record()
    callback = TransitionRateScheduling(target=0.02, final=0.0, gain=5.0, momentum=0.5)
    made = fit(Tiny(lr=0.3), callback, quiet, epochs=10)
    fit(Tiny(lr=0.3), free, epochs=10)

    def late(record: Record) -> float:
        pairs = zip(record.signs[-16:-1], record.signs[-15:], strict=True)
        return sum((a != b).float().mean().item() for a, b in pairs) / 15

    assert late(quiet) < 0.3 * late(free)
    assert "quantization/transition_rate" in made.callback_metrics


def test_it_resumes_bit_exactly(tmp_path) -> None:
    def make() -> TransitionRateScheduling:
        return TransitionRateScheduling(target=0.05, gain=1.0)

    whole, callback = Tiny(), make()
    fit(whole, callback)
    resumed, other = interrupted(make, tmp_path / "a.ckpt")
    assert callback.state_dict() == other.state_dict()
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


class OneGroup(Tiny):
    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class NoLatents(Tiny):
    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.net[0].parameters(), lr=0.1)


def test_mixed_groups_are_refused_with_the_remedy() -> None:
    with pytest.raises(ConfigurationError, match="quantizer_param_groups"):
        fit(OneGroup(), TransitionRateScheduling())
    with pytest.raises(ConfigurationError, match="must update the latent"):
        fit(NoLatents(), TransitionRateScheduling())


@pytest.mark.parametrize("options", [{"target": 2.0}, {"final": -0.1}, {"momentum": 1.0}])
def test_settings_are_checked(options) -> None:
    with pytest.raises(ConfigurationError):
        TransitionRateScheduling(**options)
