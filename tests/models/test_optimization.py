"""Schedules, groups of parameters and Bop, from plain dictionaries."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from ste_lightning.errors import ConfigurationError
from ste_lightning.layers import QuantLinear
from ste_lightning.models.optimization import check_specification, optimization
from ste_lightning.models.schedules import schedule_shape
from ste_lightning.optim import Bop

TRAINER = SimpleNamespace(estimated_stepping_batches=10)


def network():
    torch.manual_seed(0)
    lsq = {"map": "lsq", "bits": 2}
    return nn.Sequential(
        nn.Linear(4, 8), nn.BatchNorm1d(8), QuantLinear(8, 2, weight_quantizer=lsq)
    )


@pytest.mark.parametrize(
    ("spec", "rates"),
    [
        ({}, [1, 1, 1]),
        ({"schedule": "linear"}, [1, 0.5, 0]),
        ({"schedule": "cosine"}, [1, 0.5, 0]),
        ({"schedule": "multi_step"}, [1, 0.1, 0.01]),
        ({"schedule": "multi_step", "milestones": [0.9], "factor": 0.5}, [1, 1, 0.5]),
        ({"schedule": "linear", "warmup": 0.25}, [0, 2 / 3, 0]),
        ({"warmup": 1.0 / 2}, [0, 1, 1]),
    ],
)
def test_shapes_of_the_learning_rate(spec, rates):
    shape = schedule_shape(spec)
    assert [shape(s) for s in (0.0, 0.5, 1.0)] == pytest.approx(rates)


def test_one_cycle_is_torchs():
    made = torch.optim.SGD([nn.Parameter(torch.zeros(()))], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(made, 1.0, total_steps=101, cycle_momentum=False)
    shape = schedule_shape({"schedule": "one_cycle"})
    for step in range(101):
        done = step / 100
        # theirs peaks one step before 30 % of all
        if step <= 29 or step > 31:
            assert shape(done) == pytest.approx(made.param_groups[0]["lr"], abs=0.03)
        made.step()
        if step < 100:
            theirs.step()
    assert shape(0.3) == 1.0
    assert shape(1.0) < 1e-5


def test_scales_thresholds_biases_and_norms_do_not_decay():
    model = network()
    spec = {"name": "sgd", "lr": 0.1, "weight_decay": 1e-2, "schedule": "linear"}
    made = optimization(spec, model, TRAINER)["optimizer"]
    decay = {id(p): g["weight_decay"] for g in made.param_groups for p in g["params"]}
    found = {name: decay[id(p)] for name, p in model.named_parameters()}
    assert {name for name, value in found.items() if value} == {"0.weight", "2.weight"}
    assert len({g["lr"] for g in made.param_groups}) == 1
    spec = {**spec, "latent_weight_decay": 0.0, "quantizer_lr": 0.01}
    groups = {g["name"]: g for g in optimization(spec, model, TRAINER)["optimizer"].param_groups}
    assert groups["latent"]["weight_decay"] == 0
    assert groups["quantizer"]["lr"] == 0.01
    plain = optimization({"name": "sgd", "lr": 0.1}, model, TRAINER)["optimizer"]
    assert len(plain.param_groups) == 1  # as in checkpoints of before


def test_bop_flips_weights_and_leaves_the_rest_to_another():
    model = nn.Sequential(nn.Linear(4, 8), QuantLinear(8, 2))
    spec = {"name": "bop", "lr": 1.0, "threshold": 0.0, "rest": {"name": "sgd", "lr": 0.1},
            "schedule": "linear"}  # fmt: skip
    made = optimization(spec, model, TRAINER)
    assert isinstance(made["optimizer"].optimizers[0], Bop)
    before = model[0].weight.clone()
    model(torch.randn(16, 4)).square().sum().backward()
    made["optimizer"].step()
    made["lr_scheduler"]["scheduler"].step()
    assert model[1].weight.abs().eq(1).all()
    assert not torch.equal(model[0].weight, before)
    assert made["optimizer"].param_groups[0]["lr"] == pytest.approx(0.9)
    with pytest.raises(ConfigurationError, match="there are none"):
        optimization(spec, nn.Linear(2, 2), TRAINER)
    with pytest.raises(ConfigurationError, match=r"'momentum'\. Leave out .* ~optimizer\.momentum"):
        optimization({**spec, "momentum": 0.9}, model, TRAINER)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"name": "bob"}, "Did you mean 'bop'"),
        ({"schedule": "one-cycle"}, "Did you mean 'one_cycle'"),
        ({"schedule": "multi_step", "milestones": [30]}, "shares between 0 and 1"),
        ({"schedule": "multi_step", "factor": 2}, "factor"),
        ({"warmup": 5}, "warmup"),
    ],
)
def test_optimizers_that_cannot_be_are_refused(spec, words):
    with pytest.raises(ConfigurationError, match=words):
        check_specification(spec)
