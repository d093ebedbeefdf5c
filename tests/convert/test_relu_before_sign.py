"""sign(ReLU(x)) is the constant +1: conversion must see it, whatever the network looks like."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ste_lightning.convert import dequantize_, quantize_
from ste_lightning.errors import ConfigurationError
from ste_lightning.layers import QuantLinear, RPReLU

BINARY = {"match": "*", "weight": "sign", "input": "sign"}


def plain() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Dropout(0.1),
        nn.Conv2d(4, 6, 3, padding=1),
        nn.ReLU(),
        nn.BatchNorm2d(6),
        nn.Conv2d(6, 6, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(24, 3),
    )


X = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))


class Block(nn.Module):
    """A residual block whose one ReLU module is called twice, as torchvision's are."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(4, 4, 3, padding=1) for _ in range(2))
        self.bn1, self.bn2 = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(y)) + x)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 2)  # registered first, runs last
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.blocks = nn.Sequential(Block(), Block())

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.stem(x))
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


class Untraceable(nn.Module):
    """Control flow on values: no symbolic trace, except of its parts."""

    def __init__(self) -> None:
        super().__init__()
        self.net = plain()

    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            x = -x
        return self.net(x)


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.b(F.relu(self.a(x)).reshape(-1, 4)))


each_way = pytest.mark.parametrize("seen", ["trace", "sample"])


@each_way
@pytest.mark.parametrize("wrap", [plain, Untraceable])
def test_only_relus_that_reach_a_binary_input_are_replaced(wrap: Any, seen: str) -> None:
    model = wrap()
    net = model if isinstance(model, nn.Sequential) else model.net
    report = quantize_(model, BINARY, X if seen == "sample" else None)
    assert [type(net[i]) for i in (2, 6, 9)] == [nn.Hardtanh, nn.ReLU, nn.ReLU]
    assert net[2].inplace
    assert "2: ReLU -> hardtanh, because" in str(report)
    dequantize_(model)
    assert [type(net[i]) for i in (2, 6, 9)] == [nn.ReLU] * 3
    assert net[2].inplace


@each_way
def test_residual_blocks(seen: str) -> None:
    model = Residual()
    report = quantize_(model, BINARY, X if seen == "sample" else None)
    assert [type(block.relu) for block in model.blocks] == [nn.Hardtanh, nn.Hardtanh]
    assert report.quantized == [f"blocks.{b}.conv{i}" for b in (0, 1) for i in (1, 2)]
    names = [row.name for row in report.layers]
    assert names[0] == "stem"  # in the order of running, not of registration
    assert names[-1] == "head"
    model(X).sum().backward()


@each_way
@pytest.mark.parametrize(
    ("choice", "kind"), [("hardtanh", nn.Hardtanh), ("identity", nn.Identity), ("rprelu", RPReLU)]
)
def test_the_policy_chooses(choice: str, kind: type[nn.Module], seen: str) -> None:
    model = plain()
    quantize_(model, {**BINARY, "relu": choice}, X if seen == "sample" else None)
    assert type(model[2]) is kind
    if choice == "rprelu":
        assert model[2].slope.numel() == 4
    model(X).sum().backward()


@pytest.mark.parametrize(
    "inputs", ["step", None, {"map": "sign", "rule": "approx"}], ids=["step", "float", "sign"]
)
def test_inputs_that_see_nonnegative_values_keep_their_relu(inputs: Any) -> None:
    model = plain()
    quantize_(model, [{"match": "*", "weight": "sign", "input": inputs}])
    expected = nn.Hardtanh if isinstance(inputs, dict) else nn.ReLU
    assert type(model[2]) is expected


@each_way
def test_a_relu_called_as_a_function_is_an_error_with_the_remedy(seen: str) -> None:
    model = Functional()
    sample = torch.randn(3, 4) if seen == "sample" else None
    with pytest.raises(ConfigurationError, match=r"input of 'b' is a ReLU.*self.relu = nn.ReLU"):
        quantize_(model, BINARY, sample)
    assert type(model.b) is nn.Linear
    quantize_(model, [{"match": "*", "weight": "sign", "input": "step"}], sample)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_transformer_layers_exchange_their_activation_and_their_fused_kernel() -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0)
    model = nn.TransformerEncoder(layer, 2).eval()
    x = torch.randn(3, 5, 8)
    padding = torch.zeros(3, 5, dtype=torch.bool)
    padding[:, 4:] = True
    with torch.no_grad():
        before = model(x, src_key_padding_mask=padding)
    # each encoder layer starts with attention, so linear2 of the last is the model's last layer
    report = quantize_(
        model, [BINARY, {"match": "layers.1.linear2", **dict(list(BINARY.items())[1:])}]
    )
    assert isinstance(model.layers[0].activation, nn.Hardtanh)
    assert isinstance(model.layers[1].linear2, QuantLinear)
    assert "fused kernel" in str(report)
    with torch.no_grad():  # the fused kernel would use the latent weights
        quantized = model(x, src_key_padding_mask=padding)
    torch.testing.assert_close(quantized, model(x, src_key_padding_mask=padding).detach())
    dequantize_(model)
    assert model.layers[0].activation is F.relu
    with torch.no_grad():
        after = model(x, src_key_padding_mask=padding)
    torch.testing.assert_close(after, before, rtol=0, atol=0)


def test_rprelu_needs_to_know_the_channels() -> None:
    model = nn.Sequential(
        nn.Flatten(), nn.ReLU(), nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)
    )
    rules = [
        {**BINARY, "relu": "rprelu"},
        {"match": "2", **dict(BINARY, match="2"), "relu": "rprelu"},
    ]
    with pytest.raises(ConfigurationError, match="Pass a sample input"):
        quantize_(model, rules)
    assert isinstance(model[1], nn.ReLU)
    quantize_(model, rules, torch.randn(2, 4))
    assert isinstance(model[1], RPReLU)
