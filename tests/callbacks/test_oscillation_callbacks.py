from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_training import Tiny, fit, interrupted
from torch import nn

from ste_lightning.callbacks import OscillationDampening, OscillationFreezing
from ste_lightning.callbacks.oscillation import _Freezer, dampening_residual
from ste_lightning.errors import ConfigurationError
from ste_lightning.metrics import Latent, latents


class Grid(nn.Module):
    """Levels -2 .. 1 times a fixed step."""

    step = 0.5

    def integer_levels(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return (x / self.step).round().clamp(-2, 1).int(), torch.tensor(self.step)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        levels, scale = self.integer_levels(x)
        return levels * scale


class Normalizing(nn.Module):
    """A map whose levels depend on the mean: writing a level back moves the weight off it."""

    def integer_levels(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.where(x >= 10, 1, -1).int(), torch.ones(())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.integer_levels(x)[0].float()


def latent(values: np.ndarray, quantizer: nn.Module) -> Latent:
    weight = nn.Parameter(torch.tensor(values))
    return Latent("layer", weight, quantizer, nn.Identity())


def test_the_dampening_loss_has_the_papers_gradient() -> None:
    w = np.random.default_rng(0).normal(0, 0.6, 400)
    q = np.clip(np.round(w / 0.5), -2, 1) * 0.5
    eps = 1e-6

    def loss(w: np.ndarray) -> np.ndarray:
        return (q - np.clip(w, -1.0, 0.5)) ** 2

    numeric = (loss(w + eps) - loss(w - eps)) / (2 * eps)
    residual = dampening_residual(latent(w, Grid())).numpy()
    np.testing.assert_allclose(2 * residual, numeric, atol=1e-8)
    assert np.any(residual == 0)
    assert np.any(w > 0.5)


def test_dampening_binary_weights_of_one_sign_still_pulls_to_their_level() -> None:
    (one,) = latents(nn.Sequential(Tiny().net[5]))
    with torch.no_grad():
        one.weight.fill_(0.25)
    torch.testing.assert_close(dampening_residual(one), torch.full((2, 24), -0.75))


def test_dampening_is_added_to_the_gradient_before_the_step() -> None:
    plain, damped = Tiny(lr=0.01), Tiny(lr=0.01)
    start = dampening_residual(latents(damped)[0])
    fit(plain, epochs=1, limit_train_batches=1)
    fit(damped, OscillationDampening(0.3, initial=0.3), epochs=1, limit_train_batches=1)
    change = damped.latent(2) - plain.latent(2)
    torch.testing.assert_close(change.detach(), -0.01 * 2 * 0.3 * start, atol=1e-7, rtol=1e-4)
    assert torch.equal(plain.net[0].weight, damped.net[0].weight)


def test_dampening_gathers_the_weights_at_their_levels() -> None:
    plain, damped = Tiny(), Tiny()
    fit(plain, epochs=6)
    fit(damped, OscillationDampening(1.0, initial=1.0), epochs=6)
    distance = [(1 - w.abs()).clamp(0).mean() for w in (plain.latent(2), damped.latent(2))]
    assert distance[1] < 0.7 * distance[0]


def naive_freezing(walk: np.ndarray, threshold: float, momentum: float) -> np.ndarray:
    """Levels over time of a sign-valued weight under iterative freezing, weight by weight."""
    found = np.zeros(walk.shape)
    for i in range(walk.shape[1]):
        level = mean = np.where(walk[0, i] >= 0, 1.0, -1.0)
        frequency, direction, frozen = 0.0, 0.0, None
        found[0, i] = level
        for t in range(1, len(walk)):
            new = np.where(walk[t, i] >= 0, 1.0, -1.0) if frozen is None else frozen
            change = np.sign(new - level)
            event = change != 0 and change == -direction
            frequency = momentum * event + (1 - momentum) * frequency
            direction = change if change else direction
            mean = momentum * new + (1 - momentum) * mean
            if frozen is None and frequency > threshold:
                frozen = new if abs(new - mean) <= abs(level - mean) else level
            level = new
            found[t, i] = new if frozen is None else frozen
    return found


def test_freezing_is_the_papers_algorithm() -> None:
    walk = np.random.default_rng(0).normal(np.linspace(-3, 3, 30), 1, (50, 30))
    tracked = latent(walk[0], Tiny().net[5].weight_quantizer)
    freezer = _Freezer(tracked, momentum=0.1)
    found = [np.where(tracked.weight.detach() >= 0, 1, -1)]
    for target in walk[1:]:
        with torch.no_grad():
            tracked.weight.copy_(torch.tensor(target))
        freezer.step(threshold=0.25)
        found.append(np.where(tracked.weight.detach() >= 0, 1, -1))
    np.testing.assert_array_equal(found, naive_freezing(walk, 0.25, 0.1))
    assert 0.2 < freezer.frozen.float().mean() < 1
    held = tracked.weight.detach()[freezer.frozen]
    assert set(held.tolist()) == {-1.0, 1.0}


def test_a_weight_that_its_map_would_not_keep_stays_free() -> None:
    tracked = latent(np.array([11.0]), Normalizing())
    freezer = _Freezer(tracked, momentum=0.1)
    for value in (9.0, 11.0, 11.0, 11.0, 9.0, 11.0):
        with torch.no_grad():
            tracked.weight.fill_(value)
        freezer.step(threshold=0.05)
        assert tracked.weight.item() == value
    assert not freezer.frozen.any()


def test_frozen_weights_stay_while_the_others_train() -> None:
    class Watch(OscillationFreezing):
        frozen: list[torch.Tensor]

        def on_train_batch_end(self, *args) -> None:
            super().on_train_batch_end(*args)
            freezer = self._trackers["net.2"]
            if not hasattr(self, "frozen"):
                self.frozen, self.signs = [], []
            self.frozen.append(freezer.frozen.clone())
            self.signs.append(freezer.latent.weight.detach() >= 0)

    callback, model = Watch(threshold=0.005, initial=0.005), Tiny(lr=0.3)
    made = fit(model, callback, epochs=6)
    first = next(i for i, mask in enumerate(callback.frozen) if mask.sum() > 3)
    mask = callback.frozen[first]
    for later in range(first, len(callback.frozen)):
        assert torch.all(callback.frozen[later][mask])
        assert torch.equal(callback.signs[later][mask], callback.signs[first][mask])
    assert not torch.equal(callback.signs[-1], callback.signs[first])
    share = callback.frozen_share()
    assert 0 < share < 1
    assert made.callback_metrics["quantization/frozen"] == pytest.approx(share)


def test_freezing_resumes_bit_exactly(tmp_path) -> None:
    def make() -> OscillationFreezing:
        return OscillationFreezing(threshold=0.005, initial=0.01)

    whole, callback = Tiny(), make()
    fit(whole, callback)
    resumed, other = interrupted(make, tmp_path / "a.ckpt")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    for name, state in callback.state_dict().items():
        assert all(torch.equal(v, other.state_dict()[name][k]) for k, v in state.items())
    assert callback.frozen_share() > 0


@pytest.mark.parametrize("callback", [OscillationDampening(), OscillationFreezing()])
def test_a_float_model_is_refused(callback) -> None:
    with pytest.raises(ConfigurationError, match="no layer has a weight quantizer"):
        fit(Tiny(weight=None), callback)


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigurationError):
        OscillationDampening(-0.5)
    with pytest.raises(ConfigurationError, match="initial"):
        OscillationDampening(initial=-0.5)
    with pytest.raises(ConfigurationError):
        OscillationFreezing(threshold=1.5)
    with pytest.raises(ConfigurationError, match="max_epochs"):
        fit(Tiny(), OscillationDampening(), epochs=-1)
