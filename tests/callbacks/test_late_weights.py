"""Two-step training in one run: which steps see float weights, and what the others see."""

from __future__ import annotations

import lightning as L
import pytest
import torch
from tiny_training import Stop, Tiny, data, fit, trainer

from ste_lightning.callbacks import LateWeights, QuantizationAwareTraining
from ste_lightning.errors import ConfigurationError

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers",
    "ignore:.*smaller than the logging interval",
    "ignore:You defined a .validation_step. but have no",
)
LSQ = {"map": "lsq", "bits": 2}


class Seen(Tiny):
    """Notes for every training and validation step whether the weights were quantized."""

    def __init__(self, **kinds):
        super().__init__(**kinds)
        self.calls = 0
        self.seen = {"train": [], "val": []}
        self.net[5].weight_quantizer.register_forward_hook(self.count)

    def count(self, *_):
        self.calls += 1

    def noted(self, stage, step, batch):
        before, loss = self.calls, step(batch, 0)
        self.seen[stage].append(self.calls > before)
        return loss

    def training_step(self, batch, batch_idx):
        return self.noted("train", super().training_step, batch)

    def validation_step(self, batch, batch_idx):
        self.noted("val", super().training_step, batch)


class Scale(L.Callback):
    """Notes the learned scale before every step."""

    def __init__(self):
        self.seen = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.seen.append(pl_module.net[5].weight_quantizer.scale.item())


def test_weights_join_when_a_share_of_the_training_is_done():
    model, scale = Seen(weight=LSQ), Scale()
    run = trainer([LateWeights(0.5), scale], 2)
    run.fit(model, data(4), data(1))
    assert model.seen["train"] == [False] * 4 + [True] * 4
    assert all(model.seen["val"])  # what is kept as the best has quantized weights
    assert len(set(scale.seen[:4])) == 1  # nothing moves it in the first step
    assert scale.seen[4] != scale.seen[3]  # it starts from the weights that are there
    assert run.callbacks[0].state_dict() == {"joined": True}


def test_it_goes_on_where_it_was(tmp_path):
    whole = Tiny(weight=LSQ)
    fit(whole, LateWeights(0.7), epochs=4)
    fit(Tiny(weight=LSQ), LateWeights(0.7), Stop(tmp_path / "half.ckpt", 2), epochs=4)
    resumed = Tiny(weight=LSQ)
    trainer([LateWeights(0.7)], 4).fit(resumed, data(), ckpt_path=tmp_path / "half.ckpt")
    for ours, theirs in zip(resumed.parameters(), whole.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_nothing_stays_switched_off_after_an_error():
    class Broken(Seen):
        def training_step(self, batch, batch_idx):
            super().training_step(batch, batch_idx)
            raise RuntimeError("broken")

    model = Broken()
    with pytest.raises(RuntimeError, match="broken"):
        fit(model, LateWeights(), epochs=1)
    assert model.seen["train"] == [False]
    model.net(torch.zeros(2, 1, 6, 6))
    assert model.calls == 1


def test_what_cannot_work_is_refused():
    with pytest.raises(ConfigurationError, match=r"begin=1\.0"):
        LateWeights(1.0)
    with pytest.raises(ConfigurationError, match="an input quantizer"):
        fit(Tiny(inputs=None), LateWeights())
    with pytest.raises(ConfigurationError, match="set max_epochs or max_steps"):
        trainer([LateWeights()], -1).fit(Tiny(), data())
    later = QuantizationAwareTraining([{"match": "5", "weight": "sign"}], start_epoch=1)
    with pytest.raises(ConfigurationError, match="use one of the two"):
        LateWeights().on_train_start(trainer([later]), Tiny())
    together = trainer([], strategy="ddp", devices=1)
    with pytest.raises(ConfigurationError, match="find_unused_parameters_true"):
        LateWeights().on_train_start(together, Tiny(weight=LSQ))
