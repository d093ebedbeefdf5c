"""with quantized_weights(model): what the forward pass uses, and the latent weights back after."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from ste_lightning.convert import quantize_, quantized_weights
from ste_lightning.errors import ConfigurationError


def network() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 2))
    spec = {"map": "sign", "scale": "channel_mean"}
    quantize_(model, [{"match": "*", "weight": spec, "input": "sign"}])
    return model


def test_state_dict_and_weights_are_quantized_and_outputs_the_same() -> None:
    model, x = network(), torch.randn(5, 4)
    expected, latent = model(x), {k: v.clone() for k, v in model.state_dict().items()}
    parameters = list(model.parameters())
    with quantized_weights(model) as same:
        assert same is model
        assert model[1].weight.abs().unique().numel() == 6
        saved = {k: v.clone() for k, v in model.state_dict().items()}
        torch.testing.assert_close(model(x), expected)
        with quantized_weights(model):
            torch.testing.assert_close(model(x), expected)
        torch.testing.assert_close(model[1].weight, saved["1.weight"], rtol=0, atol=0)
    assert saved.keys() == latent.keys()
    assert not torch.equal(saved["1.weight"], latent["1.weight"])
    assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
    for key, value in model.state_dict().items():
        torch.testing.assert_close(value, latent[key], rtol=0, atol=0)


def test_an_exception_inside_brings_the_latent_weights_back() -> None:
    model = network()
    before = list(model.parameters())
    with pytest.raises(KeyError), quantized_weights(model):
        raise KeyError
    assert all(a is b for a, b in zip(model.parameters(), before, strict=True))
    assert model[1].weight_quantization


def test_attention_and_tied_weights() -> None:
    model = nn.ModuleList([nn.MultiheadAttention(8, 2) for _ in range(3)])
    model[2].in_proj_weight = model[1].in_proj_weight  # tied: the last one stays float
    quantize_(model, [{"match": "*", "weight": "sign"}])
    with quantized_weights(model):
        for key in ("in_proj_weight", "out_proj.weight"):
            assert set(model.state_dict()[f"1.{key}"].unique().tolist()) == {-1.0, 1.0}
        assert model[2].in_proj_weight.abs().max() < 1
    assert model[2].in_proj_weight is model[1].in_proj_weight


def test_parametrized_weights_are_refused_and_nothing_is_left_exposed() -> None:
    model = network()
    parametrizations.weight_norm(model[2])
    with pytest.raises(ConfigurationError, match="weight of '2'"), quantized_weights(model):
        pass
    assert model[1].weight_quantization
