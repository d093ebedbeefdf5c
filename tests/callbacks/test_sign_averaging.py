from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, StochasticWeightAveraging
from plain_modules import Plain, digits
from plain_modules import trainer as plain_trainer
from tiny_training import Stop, Tiny, data, fit, interrupted, trainer
from torch import Tensor

from ste_lightning.callbacks import QuantizationAwareTraining, SignAveraging
from ste_lightning.callbacks.sign_averaging import vote
from ste_lightning.deploy import pack
from ste_lightning.errors import ConfigurationError
from ste_lightning.layers import QuantLinear
from ste_lightning.metrics import latents

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers",
    "ignore:.*smaller than the logging interval",
    "ignore:You defined a .validation_step. but have no",
)


class Forward(Tiny):
    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class Validated(Forward):
    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.seen = self.latent(5).detach().clone()
        self.statistics = self.net[1].running_mean.clone()


class Watch(L.Callback):
    """Keeps the layer's weights after every optimizer step."""

    def __init__(self) -> None:
        self.weights: list[Tensor] = []

    def on_train_batch_end(self, trainer: Any, module: Any, *args: Any) -> None:
        self.weights.append(module.latent(5).detach().clone())


def one(map_: Any, weight: Tensor) -> Any:
    layer = QuantLinear(
        weight.shape[1], weight.shape[0], weight_quantizer=map_, input_quantizer=None
    )
    layer.load_state_dict({**layer.state_dict(), "weight": weight})
    layer(torch.ones(1, weight.shape[1]))
    return latents(layer)[0]


def test_what_stays_is_the_majority_of_the_signs_of_the_second_half() -> None:
    watch, model = Watch(), Forward(lr=0.3)
    fit(model, watch, SignAveraging(batches=0), epochs=3)
    later = torch.stack(watch.weights[12:])
    votes = torch.where(later >= 0, 1, -1).sum(0)
    undecided = votes == 0
    assert torch.equal(model.latent(5)[~undecided].sign(), votes[~undecided].sign().float())
    last = torch.where(watch.weights[-1] >= 0, 1.0, -1.0)
    assert torch.equal(model.latent(5)[undecided], last[undecided])
    assert not torch.equal(model.latent(5), last)  # otherwise nothing has been seen


def test_equal_votes_keep_the_present_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    halves = torch.tensor([1.0, -1.0]).repeat(9)
    order = torch.rand(18, 12, generator=generator).argsort(0)
    turns = iter(halves[order].unsqueeze(1))  # 18 steps, 12 weights, nine votes for either sign
    callback = SignAveraging(begin=0.25, batches=0)
    monkeypatch.setattr(callback, "_counted", lambda latent: next(turns).clone())
    weight = torch.linspace(-1, 1, 12)[None]
    callback._latents, callback._total = [one("sign", weight)], 1.0
    callback._steps = type("Always", (), {"advanced": lambda self, trainer: True})()
    for _ in range(18):
        done = type("Done", (), {"global_step": 1})()
        module = type("Automatic", (), {"automatic_optimization": True})()
        callback.on_train_batch_end(done, module, None, None, 0)
    voted = vote(callback._latents[0], callback._means[callback._latents[0].name])
    assert torch.equal(voted.sign(), weight.sign())


def test_with_two_optimizers_votes_count_over_the_same_part_of_the_training() -> None:
    class Two(Forward):
        automatic_optimization = False

        def training_step(self, batch: Any, batch_idx: int) -> None:
            loss = super().training_step(batch, batch_idx)
            self.manual_backward(loss)
            for optimizer in self.optimizers():
                optimizer.step()
                optimizer.zero_grad()

        def configure_optimizers(self) -> Any:
            return [torch.optim.SGD(self.net[i].parameters(), 0.3) for i in (2, 5)]

    watch, model, callback = Watch(), Two(), SignAveraging(batches=0)
    fit(model, watch, callback, epochs=2)  # 16 batches
    votes = torch.where(torch.stack(watch.weights[8:]) >= 0, 1, -1).sum(0)
    assert callback.state_dict()["count"] == 8
    assert torch.equal(model.latent(5).sign()[votes != 0], votes.sign().float()[votes != 0])


@pytest.mark.parametrize(("options", "votes"), [({"epochs": 2}, 4), ({"max_steps": 6}, 3)])
def test_steps_of_every_other_batch_count_over_the_same_part(options: Any, votes: int) -> None:
    class EveryOther(Forward):
        automatic_optimization = False

        def training_step(self, batch: Any, batch_idx: int) -> None:
            self.manual_backward(super().training_step(batch, batch_idx))
            if batch_idx % 2:
                self.optimizers().step()
                self.optimizers().zero_grad()

    callback = SignAveraging(batches=0)
    fit(EveryOther(), callback, **options)
    assert callback.state_dict()["count"] == votes


def test_a_training_that_ends_before_the_votes_says_so(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"step 8, before any vote .* begin=0.5 of 24 steps"):
        fit(Forward(lr=0.3), SignAveraging(), Stop(tmp_path / "stopped.ckpt", 1))


@pytest.mark.parametrize("other", [EMAWeightAveraging(), StochasticWeightAveraging(0.1)])
def test_another_average_beside_it_is_refused(other: Any) -> None:
    with pytest.raises(ConfigurationError, match="each puts its average"):
        fit(Forward(), SignAveraging(), other)


def test_an_exponential_vote_weighs_late_signs_more() -> None:
    watch, model = Watch(), Forward(lr=0.3)
    fit(model, watch, SignAveraging(begin=0, decay=0.5, batches=0), epochs=2)
    mean = torch.where(watch.weights[0] >= 0, 1.0, -1.0)
    for weight in watch.weights[1:]:
        mean = 0.5 * mean + 0.5 * torch.where(weight >= 0, 1.0, -1.0)
    assert torch.equal(model.latent(5).sign(), mean.sign())


def test_latents_can_be_averaged_to_compare_with() -> None:
    watch, model = Watch(), Forward(lr=0.3)
    fit(model, watch, SignAveraging(begin=0, of="latents", batches=0), epochs=2)
    torch.testing.assert_close(model.latent(5), torch.stack(watch.weights).mean(0))


@pytest.mark.parametrize(
    "map_",
    [
        "sign",
        {"map": "sign", "scale": "channel_mean"},
        {"map": "sign", "scale": "tensor_mean"},
        "ternary",
        {"map": "lsq", "bits": 2, "granularity": "channel"},
        {"map": "uniform", "bits": 4},
        "bitnet",
    ],
    ids=str,
)
def test_the_quantizer_keeps_voted_levels_and_their_scale(map_: Any) -> None:
    torch.manual_seed(0)
    latent = one(map_, torch.randn(4, 32))
    levels, scale = latent.levels()
    mean = levels.float() + 0.3 * torch.rand(levels.shape) * -levels.sign()
    voted, before = vote(latent, mean), latent.weight.detach().clone()
    assert torch.equal(latent.weight, before)
    with torch.no_grad():
        latent.weight.copy_(voted)
    found, scale_now = latent.levels()
    assert torch.equal(found, levels)
    torch.testing.assert_close(scale_now, scale)


def test_a_map_that_does_not_keep_the_vote_is_refused_at_the_start() -> None:
    with pytest.raises(ConfigurationError, match=r"'net\.2'.*'apot'.*does not keep"):
        fit(Forward(weight={"map": "apot", "bits": 4}), SignAveraging())


def test_validation_and_checkpoints_see_the_vote_and_training_does_not(tmp_path: Path) -> None:
    plain, model = Validated(lr=0.3), Validated(lr=0.3)
    settings: dict[str, Any] = {"num_sanity_val_steps": 0}
    watch, watched = Watch(), Watch()
    trainer([watch], 3, **settings).fit(plain, data(), data(1))
    made = trainer([watched, SignAveraging(begin=0.4)], 3, **settings)
    made.fit(model, data(), data(1))
    assert all(torch.equal(a, b) for a, b in zip(watch.weights, watched.weights, strict=True))
    assert torch.equal(model.seen, model.latent(5))
    assert not torch.equal(model.seen, plain.seen)
    torch.testing.assert_close(model.statistics, model.net[1].running_mean)
    made.save_checkpoint(tmp_path / "end.ckpt")
    kept = torch.load(tmp_path / "end.ckpt", weights_only=True)["state_dict"]
    assert torch.equal(kept["net.5.weight"], model.seen)


def test_it_resumes_bit_exactly_and_its_checkpoint_is_the_vote(tmp_path: Path) -> None:
    def make() -> SignAveraging:
        return SignAveraging(begin=0.1)

    whole = Forward(lr=0.3)
    fit(whole, make())
    path = tmp_path / "a.ckpt"

    class Save(L.Callback):
        def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
            if trainer.current_epoch == 1:
                self.latent = module.latent(5).detach().clone()
                trainer.save_checkpoint(path)
                assert torch.equal(module.latent(5), self.latent)

    save = Save()
    fit(Forward(lr=0.3), make(), save)
    state = torch.load(path, weights_only=True)
    assert set(state["state_dict"]["net.5.weight"].unique().tolist()) == {-1.0, 1.0}
    assert torch.equal(state["sign_averaging"]["net.5.weight"], save.latent)
    resumed, callback = Forward(lr=0.3), make()
    trainer([callback], 3).fit(resumed, data(), ckpt_path=path)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


@pytest.mark.filterwarnings("ignore:SignAveraging. the training ended")
def test_a_checkpoint_from_before_the_votes_goes_on(tmp_path: Path) -> None:
    model, _ = interrupted(lambda: SignAveraging(begin=0.9, batches=0), tmp_path / "a.ckpt")
    whole = Tiny()
    fit(whole, SignAveraging(begin=0.9, batches=0))
    assert torch.equal(model.latent(5), whole.latent(5))


def test_anybodys_module_is_voted_and_packs() -> None:
    torch.manual_seed(0)
    module = Plain(lr=0.3)
    policy = [{"match": m, "weight": "sign", "input": None} for m in ("net.3", "net.6")]
    plain_trainer([QuantizationAwareTraining(policy), SignAveraging(begin=0.2)], max_epochs=2).fit(
        module, digits(5), digits(1)
    )
    assert set(module.net[3].weight.unique().tolist()) == {-1.0, 1.0}
    x = next(iter(digits(1)))[0]
    torch.testing.assert_close(pack(module.eval())(x), module(x), atol=1e-4, rtol=1e-4)


def test_a_stopped_training_leaves_the_latent_weights() -> None:
    class Broken(Validated):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            super().validation_step(batch, batch_idx)
            raise RuntimeError("on purpose")

    model = Broken(lr=0.3)
    made = trainer([SignAveraging(begin=0, batches=0)], 2, num_sanity_val_steps=0)
    with pytest.raises(RuntimeError, match="on purpose"):
        made.fit(model, data(), data(1))
    assert set(model.seen.unique().tolist()) == {-1.0, 1.0}
    assert len(model.latent(5).unique()) > 2


def test_settings_are_checked() -> None:
    for settings in ({"begin": 1.0}, {"decay": 1.0}, {"of": "sign"}, {"batches": -1}):
        with pytest.raises(ConfigurationError, match=next(iter(settings))):
            SignAveraging(**settings)
    with pytest.raises(ConfigurationError, match="no layer has a weight quantizer"):
        fit(Forward(weight=None), SignAveraging())
    with pytest.raises(ConfigurationError, match="max_epochs"):
        fit(Forward(), SignAveraging(), epochs=-1)
