"""Distillation: the gradient is that of the mixed loss, the teacher stays outside."""

from __future__ import annotations

import copy

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from ste_lightning.callbacks import Distillation, QuantizationMonitor
from ste_lightning.errors import ConfigurationError
from ste_lightning.models import Classifier

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec"),
    pytest.mark.filterwarnings("ignore:.*smaller than the logging interval"),
    pytest.mark.filterwarnings("ignore:.*have no `val_dataloader`"),
]

SPEC = {"_target_": "ste_lightning.models.networks.MLP", "features": 6, "classes": 3}
SPEC |= {"hidden": [8, 8], "weight_quantizer": None, "input_quantizer": None}


def batches(count=8, size=4, seed=0):
    g = torch.Generator().manual_seed(seed)
    x, y = torch.randn(count * size, 6, generator=g), torch.randint(3, (count * size,), generator=g)
    return DataLoader(TensorDataset(x, y), size)


def trainer(folder, *callbacks, **settings):
    quiet = dict.fromkeys(
        ("enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
    )
    return L.Trainer(
        **{"max_epochs": 1, "accelerator": "cpu", "logger": False, "callbacks": list(callbacks)}
        | {"default_root_dir": folder, **quiet, **settings}
    )


def network(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))


class Mixed(L.LightningModule):
    """The loss of the docstring, written down."""

    def __init__(self, net, teacher, weight, temperature, features=0.0):
        super().__init__()
        self.network, self.weight, self.temperature = net, weight, temperature
        self.features, self.held = features, (teacher,)

    def training_step(self, batch, index):
        x, y = batch
        (teacher,), T = self.held, self.temperature
        f, z = self.network[:2](x), self.network(x)
        with torch.no_grad():
            g, t = teacher[:2](x), teacher(x)
        kept = F.cross_entropy(z, y)
        soft = -(F.softmax(t / T, 1) * F.log_softmax(z / T, 1)).sum(1).mean() * T * T
        matched = (F.normalize(f) - F.normalize(g)).square().sum(1).mean()
        return (1 - self.weight) * kept + self.weight * soft + self.features * matched

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.3)


class Plain(Mixed):
    def training_step(self, batch, index):
        return F.cross_entropy(self.network(batch[0]), batch[1])


@pytest.mark.parametrize(("weight", "temperature"), [(0.0, 1.0), (0.5, 3.0), (1.0, 1.0)])
@pytest.mark.parametrize("accumulated", [1, 2])
def test_a_distilled_training_is_that_of_the_mixed_loss(tmp_path, weight, temperature, accumulated):
    teacher, student = network(1), network(2)
    written = Mixed(copy.deepcopy(student), teacher, weight, temperature)
    distilled = Plain(student, None, 0, 0)
    settings = {"accumulate_grad_batches": accumulated}
    trainer(tmp_path, **settings).fit(written, batches())
    callback = Distillation(teacher, weight, temperature)
    run = trainer(tmp_path, callback, **settings)
    run.fit(distilled, batches())
    for a, b in zip(written.parameters(), distilled.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
    assert (run.callback_metrics["train/distillation"] > 0) == (weight > 0)


def test_features_are_matched_by_direction(tmp_path):
    teacher, student = network(1), network(2)
    written = Mixed(copy.deepcopy(student), teacher, 0.3, 2.0, features=0.7)
    distilled = Plain(student, None, 0, 0)
    trainer(tmp_path).fit(written, batches())
    callback = Distillation(teacher, 0.3, 2.0, features=["1"], feature_weight=0.7)
    trainer(tmp_path, callback).fit(distilled, batches())
    for a, b in zip(written.parameters(), distilled.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_the_teacher_is_in_no_checkpoint_and_stays_as_it_is(tmp_path):
    teacher, module = network(1), Plain(network(2), None, 0, 0)
    before = copy.deepcopy(teacher.state_dict())
    run = trainer(tmp_path, Distillation(teacher))
    keys = set(module.state_dict())
    run.fit(module, batches())
    run.save_checkpoint(tmp_path / "a.ckpt")
    saved = torch.load(tmp_path / "a.ckpt", weights_only=True)
    assert set(saved["state_dict"]) == keys
    assert sum(t.numel() for t in saved["state_dict"].values()) == 53
    for key, value in teacher.state_dict().items():
        assert torch.equal(value, before[key])


def test_nothing_is_left_on_student_and_teacher(tmp_path):
    teacher, module = network(1), Plain(network(2), None, 0, 0)
    callback = Distillation(teacher, features=["1"])
    for _ in range(2):
        trainer(tmp_path, callback).fit(module, batches())
        for part in (*teacher.modules(), *module.modules()):
            assert not part._forward_hooks
            assert not part._forward_pre_hooks


def test_a_float_twin_teaches_a_binary_network_from_its_checkpoint(tmp_path):
    twin = Classifier(SPEC, 3)
    run = trainer(tmp_path, QuantizationMonitor(required=False))
    run.fit(twin, batches())
    run.save_checkpoint(tmp_path / "twin.ckpt")
    student = Classifier(SPEC | {"weight_quantizer": "sign", "input_quantizer": "sign"}, 3)
    run = trainer(tmp_path, Distillation(tmp_path / "twin.ckpt", features=["2"]))
    run.fit(student, batches())
    assert run.callback_metrics["train/distillation"] > 0
    assert not any("teacher" in key for key in student.state_dict())


class Named(Plain):
    """Cannot be made without an argument that no checkpoint holds."""

    def __init__(self, name):
        super().__init__(network(2), None, 0, 0)


def test_a_checkpoint_of_a_class_that_needs_more_is_refused(tmp_path):
    run = trainer(tmp_path)
    run.fit(Named("a"), batches())
    run.save_checkpoint(tmp_path / "a.ckpt")
    with pytest.raises(ConfigurationError, match=r"Named cannot be made.*Pass the teacher as"):
        trainer(tmp_path, Distillation(tmp_path / "a.ckpt")).fit(Named("b"), batches())


def test_evaluation_asks_no_teacher(tmp_path):
    asked = []
    teacher, module = network(1), Plain(network(2), None, 0, 0)
    teacher.register_forward_hook(lambda *args: asked.append(1))
    module.validation_step = lambda batch: module.network(batch[0])
    trainer(tmp_path, Distillation(teacher)).fit(module, batches(), batches())
    assert len(asked) == 8


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"weight": 1.5}, "weight=1.5"),
        ({"temperature": 0}, "temperature=0"),
        ({"feature_weight": -1}, "feature_weight=-1"),
        ({"teacher": "missing.ckpt"}, "no such checkpoint"),
        ({"student": "net"}, "Did you mean 'network'"),
        ({"features": ["3"]}, "unknown features"),
        ({"teacher": nn.Linear(6, 4)}, "student's shape"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, options, words):
    module = Plain(network(2), None, 0, 0)
    with pytest.raises(ConfigurationError, match=words):
        trainer(tmp_path, Distillation(**{"teacher": network(1), **options})).fit(module, batches())
