"""What ``*`` leaves alone unless it is named, what stays float and why, and rules for nothing."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import nn

from ste_lightning import deploy
from ste_lightning.convert import dequantize_, quantize_, summary
from ste_lightning.errors import ConfigurationError
from ste_lightning.layers import QuantConv2d, QuantizedLayer, QuantLinear
from ste_lightning.layers.linear import QuantRowLinear

BINARY = {"match": "*", "weight": "sign", "input": "sign"}


class Renamed(nn.Linear):
    """Keeps torch's forward."""


class Mixin:
    def extra_repr(self) -> str:
        return "mine"


class Padded(Mixin, nn.Conv2d):
    """Keeps torch's forward, too."""


class Standardized(nn.Conv2d):
    def _conv_forward(self, input: Any, weight: Any, bias: Any) -> Any:
        return super()._conv_forward(input, weight - weight.mean(), bias)


class Scaled(nn.Linear):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(input)


class Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mixing = nn.Parameter(torch.ones(3, 3))


def test_subclasses_that_keep_the_forward_are_quantized_and_come_back() -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), Padded(4, 4, 1), Standardized(4, 4, 1), nn.Flatten(),
        Renamed(16, 8), Scaled(8, 8), nn.Linear(8, 3),
    )  # fmt: skip
    x = torch.randn(2, 1, 4, 4)
    before = model(x)
    report = quantize_(model, {"weight": {"map": "lsq", "bits": 4}})
    assert report.quantized == ["1", "4"]
    assert isinstance(model[1], (QuantConv2d, Padded))
    assert isinstance(model[4], QuantLinear)
    assert isinstance(model[4], Renamed)
    assert "a subclass of Conv2d with a _conv_forward of its own" in str(report)
    assert "a subclass of Linear with a forward of its own" in str(report)
    assert "lsq/identity 4 bits signed tensor" in str(report)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert type(other[4]) is type(model[4])
        assert torch.equal(other(x), model(x))
    dequantize_(model)
    assert type(model[4]) is Renamed
    assert torch.equal(model(x), before)


def test_the_report_names_everything_with_weights_that_stays_float() -> None:
    model = nn.Sequential(
        nn.Linear(8, 8), nn.Linear(8, 8), nn.LSTM(8, 8), nn.GRUCell(8, 8), nn.LayerNorm([8, 8]),
        Own(), nn.Bilinear(2, 2, 2), nn.BatchNorm1d(8), nn.LazyLinear(4),
    )  # fmt: skip
    report = str(quantize_(model, {"match": "1", "weight": "sign"}))
    for row in (
        "LSTM: it has no quantized form",
        "GRUCell: it has no",
        "Own: it has no quantized form (mixing)",
        "Bilinear",
        "LazyLinear: its weights do not exist yet",
    ):
        assert row in report, report
    assert "LayerNorm" not in report
    assert "BatchNorm" not in report


@pytest.mark.parametrize(
    ("match", "message"),
    [
        ("type:Conv2D", "'type:Conv2D'. Did you mean 'type:Conv2d'"),
        (nn.ConvTranspose2d, "type:ConvTranspose2d"),
        ("encoder.*", "unknown layer 'encoder.*'"),
        ("re:[a-z]+", r"unknown layer 're:\[a-z\]\+'"),
        ("3", "match='3' cannot be used: '3' stays float .LSTM"),
    ],
)
def test_a_rule_that_matches_nothing_is_named(match: Any, message: str) -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.Linear(4, 4), nn.Linear(4, 4), nn.LSTM(4, 4))
    with pytest.raises(ConfigurationError, match=message):
        quantize_(model, [BINARY, {"match": match, "weight": "sign"}])
    assert not any(isinstance(m, QuantizedLayer) for m in model.modules())
    quantize_(model, [BINARY, {"match": "3", "weight": None}])  # which stays float anyway


class Language(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.wpe = nn.Embedding(9, 8), nn.Embedding(5, 8)
        self.query = nn.ModuleDict({"base_layer": nn.Linear(8, 8), "lora_A": nn.Linear(8, 2)})
        self.mix = nn.Linear(8, 8)
        self.head = nn.Linear(8, 9, bias=False)
        self.head.weight = self.tokens.weight
        self.teacher = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)).requires_grad_(False)

    def forward(self, index: torch.Tensor) -> torch.Tensor:
        x = self.wpe(torch.arange(index.shape[-1])) + self.tokens(index)
        x = self.mix(self.query["base_layer"](x) + self.query["lora_A"](x).sum(-1, keepdim=True))
        return self.head(x) + self.teacher(x).sum()


def test_what_a_wildcard_leaves_alone() -> None:
    model = Language()
    rules = [BINARY, {"match": "type:Embedding", "weight": "sign"}]
    report = quantize_(model, rules, torch.zeros(1, 5, dtype=torch.long))
    assert report.quantized == ["query.base_layer", "mix"]
    text = str(report)
    for line in (
        "an embedding of positions: only a rule of its own reaches it",
        "an adapter: only a rule of its own",
        "it is frozen, like a teacher: only a rule of its own",
    ):
        assert line in text, text
    assert "the first layer" in text
    assert "the last layer" in text  # the tied head is still the last


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        ("wpe", ["wpe"]),
        ("*pe", ["wpe"]),
        ("teacher.*", ["teacher.0", "teacher.1"]),
        ("query.lora*", ["query.lora_A"]),
        ("head", ["head"]),
    ],
)
def test_they_are_reached_by_rules_of_their_own(match: str, expected: list[str]) -> None:
    report = quantize_(Language(), [{"match": match, "weight": "sign"}])
    assert report.quantized == expected
    assert ("frozen" in str(report.layers)) or match != "teacher.*"


def test_a_tied_table_inside_the_network_is_left_alone() -> None:
    model = Language()
    report = quantize_(model, BINARY)  # traced or not: the head is an edge, the table is tied
    assert "tokens" not in report.quantized
    assert model.head.weight is model.tokens.weight


def test_where_all_is_frozen_the_frozen_are_meant() -> None:
    model = nn.Sequential(*[nn.Linear(4, 4) for _ in range(4)]).requires_grad_(False)
    model[3].requires_grad_(True)
    report = quantize_(model, {"weight": {"map": "lsq", "bits": 4}})
    assert report.quantized == ["1", "2"]
    assert not any(p.requires_grad for p in model[1].parameters())


def test_a_frozen_network_is_quantized_without_its_trained_adapters() -> None:
    model = Language().requires_grad_(False)
    model.query["lora_A"].requires_grad_(True)
    report = quantize_(model, BINARY, torch.zeros(1, 5, dtype=torch.long))
    assert {"query.base_layer", "mix"} <= set(report.quantized)
    assert not {"query.lora_A", "wpe", "tokens"} & set(report.quantized)


def conv1d() -> Any:
    """A stand-in for the class of the transformers library, known by its name."""
    body = {"__module__": "transformers.pytorch_utils", "forward": _forward, "__init__": _init}
    return type("Conv1D", (nn.Module,), body)


def _init(self: Any, outputs: int, inputs: int) -> None:
    nn.Module.__init__(self)
    self.nf = outputs
    self.weight = nn.Parameter(torch.randn(inputs, outputs))
    self.bias = nn.Parameter(torch.randn(outputs))


def _forward(self: Any, x: torch.Tensor) -> torch.Tensor:
    flat = torch.addmm(self.bias, x.view(-1, x.size(-1)), self.weight)
    return flat.view(*x.size()[:-1], self.nf)


def test_linear_layers_with_their_inputs_first_are_quantized() -> None:
    cls = conv1d()
    cls.__qualname__ = "Conv1D"
    model = nn.Sequential(nn.Linear(6, 6), cls(4, 6), nn.Linear(4, 2))
    x = torch.randn(2, 3, 6)
    before = model(x)
    spec = {"map": "sign", "scale": "channel_mean"}
    assert quantize_(model, {"weight": spec}).quantized == ["1"]
    layer = model[1]
    assert isinstance(layer, QuantRowLinear)
    scale = layer.weight.abs().mean(0)  # one for each output
    wanted = model[0](x) @ (layer.weight.sign() * scale) + layer.bias
    torch.testing.assert_close(layer(model[0](x)), wanted)
    rows = summary(model, x).layers
    assert [(row.macs, row.score_macs) for row in rows] == [(108, 0), (72, 0), (24, 0)]
    packed = deploy.pack(model.eval())
    torch.testing.assert_close(packed(x), model(x))
    dequantize_(model)
    assert type(model[1]) is cls
    assert torch.equal(model(x), before)
