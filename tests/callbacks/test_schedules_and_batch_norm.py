"""Networks of quantized layers: their schedules are driven, batch norm is estimated anew."""

from __future__ import annotations

import lightning as L
import pytest
import torch
from tiny_training import Tiny, data, fit, trainer
from torch.utils.data import DataLoader

from ste_lightning.callbacks import BatchNormReestimation, QuantizerSchedules
from ste_lightning.convert import reestimate_batch_norm
from ste_lightning.errors import ConfigurationError

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers",
    "ignore:.*smaller than the logging interval",
    "ignore:You defined a .validation_step. but have no",
)
RESTE = {"map": "sign", "rule": "reste", "schedule": "reste"}


class Orders(L.Callback):
    """Notes ReSTE's order before every step."""

    def __init__(self):
        self.seen = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        rule = pl_module.net[2].weight_quantizer.rule
        self.seen.append(float(rule.o))


def test_schedules_follow_the_training():
    orders = Orders()
    fit(Tiny(weight=RESTE, inputs=RESTE), QuantizerSchedules(), orders, epochs=2)
    assert orders.seen[0] == 1.0
    assert orders.seen == sorted(orders.seen)
    assert 2.5 < orders.seen[-1] < 3.0
    still = Orders()
    fit(Tiny(weight=RESTE), still, epochs=1)
    assert set(still.seen) == {1.0}  # nothing drives them by itself


def test_schedules_need_an_end():
    with pytest.raises(ConfigurationError, match="set max_epochs or max_steps"):
        trainer([QuantizerSchedules()], -1).fit(Tiny(weight=RESTE), data())


class Data(L.LightningDataModule):
    def train_dataloader(self):
        return data(4)

    def val_dataloader(self):
        return data(1)


class Validated(Tiny):
    def forward(self, x):
        return self.net(x)

    def training_step(self, rows, number):  # Lightning gives them by their places
        return super().training_step(rows, number)

    def validation_step(self, batch, batch_idx):
        self.seen = self.net[1].running_mean.clone()
        self(batch[0])


def test_validation_sees_statistics_of_the_present_weights():
    model = Validated()
    trainer([BatchNormReestimation(3)], 1, num_sanity_val_steps=0).fit(model, datamodule=Data())
    expected = Validated()
    expected.load_state_dict(model.state_dict())
    reestimate_batch_norm(expected, [x for x, _ in data(4)][:3])
    torch.testing.assert_close(model.seen, expected.net[1].running_mean)
    torch.testing.assert_close(model.net[1].running_var, expected.net[1].running_var)


def test_statistics_are_estimated_in_the_precision_of_training():
    model = Validated()
    settings = {"num_sanity_val_steps": 0, "precision": "64-true"}
    trainer([BatchNormReestimation(3)], 1, **settings).fit(model, datamodule=Data())
    assert model.seen.dtype == torch.float64


def test_what_cannot_be_estimated_is_refused():
    with pytest.raises(ConfigurationError, match="batches"):
        BatchNormReestimation(0)
    loader = DataLoader(data(2).dataset, 16, num_workers=1, persistent_workers=True)
    with pytest.raises(ConfigurationError, match="persistent_workers"):
        trainer([BatchNormReestimation()], 1, num_sanity_val_steps=0).fit(
            Validated(), loader, data(1)
        )
