"""The summary's numbers, counted by hand."""

from __future__ import annotations

import pytest
import torch
from plain_modules import Plain, digits, mlp, trainer
from torch import nn

from ste_lightning.callbacks import QuantizationAwareTraining, QuantizationSummary
from ste_lightning.convert import quantize_, summary

BINARY = {"match": "*", "weight": "sign", "input": "sign"}


def test_parameters_sizes_and_products() -> None:
    model = mlp(32)
    quantize_(model, BINARY)
    made = summary(model, torch.randn(8, 64))
    rows = {row.name: row for row in made.layers}
    assert rows["3"].arithmetic == "W1A1"
    assert rows["0"].arithmetic == "float"
    assert rows["3"].one_bit == 32 * 32
    assert rows["3"].deployed_bytes == 32 * 32 // 8 + 32 * 4
    floats = 64 * 32 + 32 + 32 * 10 + 10 + 2 * 32 + 3 * 2 * 32
    assert made.parameters == {"1-bit": 2 * 32 * 32, "low-bit": 0, "float": floats}
    assert made.macs == {"float": 64 * 32 + 32 * 10, "W1A1": 2 * 32 * 32}
    counters = 3 * (2 * 32 * 4 + 8)  # batch norm's statistics and its count of batches
    assert made.deployed_bytes == 2 * 32 * 32 // 8 + floats * 4 + counters
    assert made.training_bytes == (2 * 32 * 32 + floats) * 4 + counters
    assert "W1A1" in str(made)
    assert "MACs per sample" in str(made)
    assert "batch of 8" in str(made)
    assert "saved for backward" in str(made)


def test_other_bits_scales_and_shared_parameters() -> None:
    model = nn.Sequential(*[nn.Linear(16, 16, bias=False) for _ in range(5)])
    model[2].weight = model[1].weight
    scaled = {"map": "sign", "scale": "channel_mean"}
    quantize_(
        model,
        [
            {"match": "[12]", "weight": scaled},
            {"match": "3", "weight": {"map": "ternary"}, "input": {"map": "lsq", "bits": 8}},
        ],
    )
    rows = {row.name: row for row in summary(model).layers}
    assert rows["1"].arithmetic == "W1A32"
    assert rows["1"].deployed_bytes == 16 * 16 // 8 + 16 * 4
    assert "2" not in rows  # its weight is that of the first
    assert rows["3"].low_bit == 256
    assert rows["3"].arithmetic == "W1.58A8"
    assert rows["3"].macs is None
    assert summary(model).saved_bytes is None
    assert 256 * 2 // 8 <= rows["3"].deployed_bytes <= 256 * 2 // 8 + 16


def test_convolutions_attention_recurrence_and_functions() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 4, 3, padding=1, groups=2)
            self.up = nn.ConvTranspose2d(4, 2, 2, stride=2)
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
            self.lstm = nn.LSTM(8, 4, batch_first=True)
            self.head = nn.Linear(4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.up(self.conv(x)).flatten(2).reshape(len(x), -1, 8)
            x = torch.tanh(self.attention(x, x, x, need_weights=False)[0])
            return self.head(self.lstm(x)[0])

    model = Model()
    quantize_(model, [{"match": "attention", "weight": "sign", "input": "sign"}])
    made = summary(model, torch.randn(3, 2, 4, 4))
    macs = {row.name: row.macs for row in made.layers}
    length = 2 * 8 * 8 // 8
    assert macs["conv"] == 4 * 16 * 1 * 9
    assert macs["up"] == 4 * 16 * 2 * 4
    assert macs["attention"] == 4 * length * 8 * 8
    assert made.macs["attention scores"] == 2 * length * length * 8
    assert macs["lstm"] == length * (4 * 4 * 8 + 4 * 4 * 4)
    assert macs[""] == 0
    own = next(row for row in made.layers if row.name == "")
    assert own.saved_bytes  # the tanh in forward
    assert "(model)" in str(made)


def test_products_that_a_forward_pass_writes_itself() -> None:
    class Attention(nn.Module):
        def __init__(self, way: str) -> None:
            super().__init__()
            self.qkv, self.way = nn.Linear(8, 24, bias=False), way
            self.out = nn.Parameter(torch.randn(8, 8))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            q, k, v = (t.unflatten(-1, (2, 4)).transpose(1, 2) for t in self.qkv(x).chunk(3, -1))
            if self.way == "fused":
                y = nn.functional.scaled_dot_product_attention(q, k, v)
            elif self.way == "matmul":
                y = (q @ k.mT).softmax(-1) @ v
            else:
                y = torch.einsum("bhqk,bhkd->bhqd", torch.einsum("bhqd,bhkd->bhqk", q, k), v)
            return nn.functional.linear(y.transpose(1, 2).flatten(2), self.out)

    for way in ("fused", "matmul", "einsum"):
        model = nn.Sequential(nn.Linear(8, 8), Attention(way))
        quantize_(model, [{"match": "1.qkv", "weight": "sign", "input": "sign"}])
        for batch in (1, 5):
            made = summary(model, torch.randn(batch, 6, 8))
            assert made.macs == {
                "float": 2 * 6 * 8 * 8,
                "W1A1": 6 * 8 * 24,
                "attention scores": 2 * 6 * 6 * 8,
            }
    functional = summary(_Convolves(), torch.randn(2, 3, 6, 6))
    assert functional.macs == {"float": 4 * 16 * 27 + 3 * 16 * 4 * 4 + 3 * 6 * 6}


class _Convolves(nn.Module):
    """Convolutions and products of a parameter, without modules."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.back, self.v = (
            nn.Parameter(torch.randn(s)) for s in ((4, 3, 3, 3), (4, 3, 2, 2), (6,))
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = nn.functional.conv2d(x, self.w)
        y = nn.functional.conv_transpose2d(y, self.back, stride=2)
        return y.sum() + (x @ self.v).sum()


def test_saved_bytes_are_those_of_autograd() -> None:
    model = nn.Sequential(nn.Linear(4, 8, bias=False), nn.Tanh())
    made = summary(model, torch.randn(16, 4))
    assert [row.saved_bytes for row in made.layers] == [16 * 4 * 4, 16 * 8 * 4]


def test_the_model_is_left_as_it_was() -> None:
    model = mlp()
    quantize_(model, {"match": "*", "weight": {"map": "lsq"}, "input": {"map": "lsq"}})
    model[1].eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    state = torch.get_rng_state()
    summary(model, torch.randn(8, 64, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert not model[3].input_quantizer._ready
    assert not model[1].training
    assert model[0].training


@pytest.mark.filterwarnings(
    "ignore:.*does not have many workers",
    "ignore:You defined a .validation_step. but have no",
    "ignore:.*`isinstance.treespec, LeafSpec.` is deprecated",
)
def test_the_callback_prints_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    module = Plain()
    module.example_input_array = torch.randn(4, 64)
    callback = QuantizationSummary()
    trainer([QuantizationAwareTraining(BINARY), callback]).fit(module, digits(2))
    assert callback.summary is not None
    assert callback.summary.parameters["1-bit"] == 2 * 24 * 24
    assert "deployed" in capsys.readouterr().out


def test_a_sample_of_one_row_is_enough() -> None:
    model = mlp(32).eval()
    quantize_(model, BINARY)
    made = summary(model, torch.randn(1, 64))
    assert made.macs == {"float": 64 * 32 + 32 * 10, "W1A1": 2 * 32 * 32}
    assert not any(module.training for module in model.modules())
