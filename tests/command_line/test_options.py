"""Every option of the groups `quantizer` and `optimizer` makes what it says."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from ste_lightning.io.paths import CONF
from ste_lightning.models.networks import MLP
from ste_lightning.models.optimization import optimization
from ste_lightning.running.stopwatch import Stopwatch

QUANTIZERS = sorted((CONF / "quantizer").glob("*.yaml"))
OPTIMIZERS = sorted((CONF / "optimizer").glob("*.yaml"))


@pytest.mark.parametrize("path", QUANTIZERS, ids=lambda path: path.stem)
def test_a_quantizer_trains_a_layer(path):
    node = OmegaConf.to_container(OmegaConf.load(path))
    assert set(node) == {"weight", "input"}
    torch.manual_seed(0)
    quantizers = {"weight_quantizer": node["weight"], "input_quantizer": node["input"]}
    net = MLP(1024, 3, (16, 16), **quantizers)  # many inputs: weights begin near 0
    layer = next(m for m in net if hasattr(m, "weight_quantizer"))
    assert (layer.weight_quantizer is None) == (node["weight"] is None)
    assert (layer.input_quantizer is None) == (node["input"] is None)
    nn.functional.cross_entropy(net(torch.randn(8, 1024)), torch.arange(8) % 3).backward()
    assert layer.quantized_weight().any()
    assert layer.weight.grad.isfinite().all()
    assert layer.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("path", OPTIMIZERS, ids=lambda path: path.stem)
def test_an_optimizer_changes_all_parameters_and_its_rate(path):
    spec = OmegaConf.to_container(OmegaConf.load(path))
    torch.manual_seed(0)
    net = MLP(12, 3, (16, 16))
    made = optimization(spec, net, SimpleNamespace(estimated_stepping_batches=2))
    optimizer, schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]
    before = [p.clone() for p in net.parameters()]
    for _ in range(2):  # a warm-up begins at 0
        nn.functional.cross_entropy(net(torch.randn(8, 12)), torch.arange(8) % 3).backward()
        optimizer.step()
        schedule.step()
    changed = [not torch.equal(p, old) for p, old in zip(net.parameters(), before, strict=True)]
    assert all(changed)
    assert optimizer.param_groups[0]["lr"] < 0.02 * optimizer.param_groups[0]["initial_lr"]


def test_testing_the_best_checkpoint_does_not_count_its_training_again():
    watch = Stopwatch()
    assert watch.state_dict() == {"seconds": 0}
    watch.load_state_dict({"seconds": 5.0})  # of a training that goes on
    watch.on_train_batch_end(None, None, None, None, 0)
    watch.on_train_end(None, None)
    seconds = watch.seconds
    assert seconds >= 5.0
    watch.load_state_dict({"seconds": seconds})
    assert watch.seconds == seconds
