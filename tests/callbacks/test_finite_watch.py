"""NaN and infinity stop a training, with layer, batch and cause, before a checkpoint is written."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import BackboneFinetuning, ModelCheckpoint
from plain_modules import BINARY, FOUR_BITS, LSQ, Plain, digits, trainer
from torch import nn

from ste_lightning.callbacks import FiniteCheck, LatentClipping, QuantizationAwareTraining
from ste_lightning.callbacks.finite_watch import FiniteWatch
from ste_lightning.errors import NotFiniteError

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers",
    "ignore:.*smaller than the logging interval",
    "ignore:You defined a .validation_step. but have no",
    "ignore:Checkpoint directory .* exists and is not empty",
)


class Harm(L.Callback):
    """Spoils something before the batch of one step."""

    def __init__(self, what: str, value: float, step: int = 7) -> None:
        self.what, self.value, self.step = what, value, step

    @torch.no_grad()
    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self.step:
            if self.what == "data":
                batch[0][3, 5] = self.value
            elif self.what == "weight":
                pl_module.net[3].weight[0, 0] = self.value
            elif self.what == "scale":
                pl_module.net[3].input_quantizer.scale.fill_(self.value)


class Spoiled(Plain):
    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        loss = super().training_step(batch, batch_idx)
        return loss * math.inf if self.global_step == 7 else loss


@pytest.mark.parametrize(
    ("what", "value", "policy", "said"),
    [
        ("data", math.nan, BINARY, "batch 2 of epoch 1 holds NaN"),
        ("data", math.inf, BINARY, "batch 2 of epoch 1 holds infinity"),
        ("weight", math.nan, BINARY, "'weight' of layer 'net.3' is NaN"),
        ("weight", math.inf, BINARY, "'weight' of layer 'net.3' is"),
        ("scale", math.nan, FOUR_BITS, "'scale' of layer 'net.3.input_quantizer' is NaN"),
        ("loss", math.inf, BINARY, "the loss of batch 2 of epoch 1 is infinity"),
    ],
)
def test_what_is_not_finite_stops_the_run(
    tmp_path: Path, what: str, value: float, policy: Any, said: str
) -> None:
    module = Spoiled() if what == "loss" else Plain()
    keep = ModelCheckpoint(tmp_path, save_last=True, save_on_exception=True)
    callbacks = [Harm(what, value), QuantizationAwareTraining(policy), keep]
    run = trainer(callbacks, max_epochs=6, enable_checkpointing=True)
    with pytest.raises(NotFiniteError, match=said):
        run.fit(module, digits(5))
    assert 7 <= run.global_step <= 18
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert saved["global_step"] == 5
    assert all(bool(v.isfinite().all()) for v in saved["state_dict"].values())
    assert not module._state_dict_pre_hooks


@pytest.mark.parametrize("weights_only", [False, True])
def test_no_checkpoint_is_written_between_two_looks(tmp_path: Path, weights_only: bool) -> None:
    keep = ModelCheckpoint(
        tmp_path,
        "{step}",
        every_n_train_steps=1,
        save_top_k=-1,
        save_weights_only=weights_only,
    )
    watch = QuantizationAwareTraining(BINARY, check_finite=1000)
    run = trainer([Harm("weight", math.nan), watch, keep], max_epochs=2, enable_checkpointing=True)
    with pytest.raises(NotFiniteError):
        run.fit(Plain(), digits(5))
    assert sorted(p.stem for p in tmp_path.iterdir()) == [f"step={n}" for n in range(1, 8)]


def test_data_that_are_measured_on_are_looked_at_too() -> None:
    x, y = digits(2).dataset.tensors
    spoiled = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x.clone(), y), 32)
    spoiled.dataset.tensors[0][40, 5] = math.nan  # a sign makes a number of it
    module, callback = Plain(), QuantizationAwareTraining(BINARY)
    run = trainer([callback], num_sanity_val_steps=0)
    with pytest.raises(NotFiniteError, match="validation batch 1 of epoch 0 holds NaN"):
        run.fit(module, digits(2), spoiled)
    for evaluate, said in ((run.validate, "validation batch 1"), (run.test, "test batch 1")):
        with pytest.raises(NotFiniteError, match=f"evaluation stopped: {said}"):
            evaluate(module, spoiled, verbose=False)
        evaluate(module, digits(2), verbose=False)
    assert not module._state_dict_pre_hooks


def test_the_watch_can_be_off_and_starts_with_the_model() -> None:
    module = Plain()
    with torch.no_grad():
        module.net[9].bias[0] = math.nan
    with pytest.raises(NotFiniteError, match=r"'bias' of layer 'net.9' is NaN.*it was so when"):
        trainer([QuantizationAwareTraining(BINARY)]).fit(module, digits(2))
    trainer([QuantizationAwareTraining(BINARY, check_finite=0)]).fit(Plain(), digits(2))


@pytest.mark.parametrize(("every", "watches"), [(5, 1), (10, 1), (11, 2)])
def test_two_that_look_as_often_look_once(
    monkeypatch: pytest.MonkeyPatch, every: int, watches: int
) -> None:
    noted: list[int] = []
    note = FiniteWatch.batch
    monkeypatch.setattr(
        FiniteWatch, "batch", lambda self, *batch: (noted.append(1), note(self, *batch))[1]
    )
    callbacks = [Harm("data", math.nan, 1), QuantizationAwareTraining(BINARY), FiniteCheck(every)]
    run = trainer(callbacks, max_epochs=1)
    with pytest.raises(NotFiniteError, match="batch 1 of epoch 0 holds NaN"):
        run.fit(Plain(), digits(2))
    assert len(noted) == 2 * watches


def test_a_frozen_layer_stays_as_it_is() -> None:
    module = Plain()
    module.net[3].requires_grad_(False)
    with torch.no_grad():
        module.net[3].weight[0, 0] = 3.0
    module.net[6].requires_grad_(True)
    policy = [*FOUR_BITS, {"match": "net.3", "weight": LSQ, "input": {**LSQ, "signed": False}}]
    callback = QuantizationAwareTraining(policy, calibrate_batches=2)
    before = module.net[3].weight.clone()
    trainer([callback, LatentClipping(0.2)], max_epochs=2).fit(module, digits(4))
    assert torch.equal(module.net[3].weight, before)
    assert not any(p.requires_grad for p in module.net[3].parameters())
    assert float(module.net[6].weight.detach().abs().max()) <= 0.2001
    assert "rule 'net.3', frozen" in str(callback.report)


class Backbone(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.head = self.net[:8], self.net[8:]

    def configure_optimizers(self) -> Any:
        trained = [p for p in self.parameters() if p.requires_grad]
        return torch.optim.SGD(trained, 1e-2)


@pytest.mark.filterwarnings("ignore:The provided params to be frozen already exist")  # batch norms
@pytest.mark.parametrize("first", [True, False])
def test_a_backbone_that_is_frozen_for_a_while_is_quantized(first: bool) -> None:
    module = Backbone()
    finetuning = BackboneFinetuning(unfreeze_backbone_at_epoch=1, verbose=False)
    callbacks = [QuantizationAwareTraining(FOUR_BITS), finetuning]
    trainer(callbacks[:: 1 if first else -1], max_epochs=3).fit(module, digits(3))
    quantizer = module.net[3].weight_quantizer
    assert isinstance(quantizer, nn.Module)
    assert all(p.requires_grad for p in module.net[3].parameters())
