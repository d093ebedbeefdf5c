from __future__ import annotations

import pytest
import torch
from torch import nn

from ste_lightning.errors import ConfigurationError
from ste_lightning.layers import QuantConv2d, QuantLinear, RSign
from ste_lightning.optim import quantizer_param_groups


class Threshold(nn.Module):
    """A user's own quantizer with a learned threshold."""

    def __init__(self) -> None:
        super().__init__()
        self.threshold = nn.Parameter(torch.zeros(3, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sign(x - self.threshold.mean())


def model() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        RSign(4),
        QuantConv2d(4, 4, 3, input_quantizer=Threshold()),
        QuantLinear(4, 4, weight_quantizer=None),
        QuantLinear(4, 2),
    )


def names(net: nn.Module, group: dict) -> set[str]:
    ids = {id(p) for p in group["params"]}
    return {name for name, p in net.named_parameters() if id(p) in ids}


def test_each_parameter_is_in_the_group_it_belongs_to() -> None:
    net = model()
    groups = {g["name"]: g for g in quantizer_param_groups(net, lr=1.0, weight_decay=0.1)}
    assert names(net, groups["latent"]) == {"3.weight", "5.weight"}
    assert names(net, groups["quantizer"]) == {"2.bias", "3.input_quantizer.threshold"}
    assert names(net, groups["decay"]) == {"0.weight", "4.weight"}
    assert sum(len(g["params"]) for g in groups.values()) == len(list(net.parameters()))
    assert {n: (g["lr"], g["weight_decay"]) for n, g in groups.items()} == {
        "latent": (1.0, 0.0),
        "quantizer": (0.1, 0.0),
        "decay": (1.0, 0.1),
        "no_decay": (1.0, 0.0),
    }


def test_rates_can_be_set_and_optimizers_take_the_groups() -> None:
    net = model()
    net[0].weight.requires_grad_(False)
    groups = quantizer_param_groups(
        net, lr=1e-3, latent_lr=1e-2, latent_weight_decay=0.5, quantizer_lr=1e-5
    )
    optimizer = torch.optim.AdamW(groups)
    found = {g["name"]: (g["lr"], g["weight_decay"]) for g in optimizer.param_groups}
    assert found["latent"] == (1e-2, 0.5)
    assert found["quantizer"] == (1e-5, 0.0)
    assert all(net[0].weight is not p for g in groups for p in g["params"])


def test_a_float_model_has_no_empty_groups() -> None:
    groups = quantizer_param_groups(nn.Linear(2, 2), lr=0.1)
    assert [g["name"] for g in groups] == ["decay", "no_decay"]


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="latent_lr"):
        quantizer_param_groups(model(), lr=0.1, latent_lr=-1.0)
    with pytest.raises(ConfigurationError, match="weight_decay"):
        quantizer_param_groups(model(), lr=0.1, weight_decay=-1.0)
    with pytest.raises(ConfigurationError, match="no trainable"):
        quantizer_param_groups(nn.ReLU(), lr=0.1)
