"""Transposed convolutions, embedding, attention, learnable activations, presets, conversion."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ste_lightning import functional as SF
from ste_lightning.errors import ConfigurationError
from ste_lightning.layers import (
    QUANTIZED,
    BinaryConv1d,
    BinaryConv2d,
    BinaryConv3d,
    BinaryLinear,
    BitLinear,
    QuantConv2d,
    QuantConvTranspose1d,
    QuantConvTranspose2d,
    QuantEmbedding,
    QuantizedLayer,
    QuantLinear,
    QuantMultiheadAttention,
    RPReLU,
    RSign,
    TernaryLinear,
)

LAYERS: list[tuple[nn.Module, Any]] = [
    (nn.Linear(6, 4), torch.randn(3, 6)),
    (nn.Conv1d(4, 6, 3, padding=1), torch.randn(2, 4, 8)),
    (nn.Conv2d(4, 6, 3, stride=2), torch.randn(2, 4, 8, 8)),
    (nn.Conv3d(2, 3, 3), torch.randn(1, 2, 5, 5, 5)),
    (nn.ConvTranspose1d(4, 6, 3, stride=2, output_padding=1), torch.randn(2, 4, 5)),
    (nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2), torch.randn(2, 4, 5, 5)),
    (nn.Embedding(10, 4, padding_idx=0), torch.tensor([[1, 0, 7]])),
]


@pytest.mark.parametrize(("layer", "x"), LAYERS, ids=lambda v: type(v).__name__)
def test_conversion_in_place_and_back(layer: nn.Module, x: torch.Tensor) -> None:
    layer = copy.deepcopy(layer)
    calls: list[int] = []
    handle = layer.register_forward_hook(lambda *_: calls.append(1))
    before, weight, keys = layer(x), layer.weight, layer.state_dict().keys()
    quant_class = QUANTIZED[type(layer)]
    quantized: Any = quant_class.from_float(layer, weight_quantizer="sign")
    assert quantized is layer
    assert isinstance(layer, QuantizedLayer)
    assert layer.weight is weight
    assert layer.state_dict().keys() == keys
    expected = copy.deepcopy(layer).to_float()
    with torch.no_grad():
        expected.weight.copy_(SF.hard_sign(weight))
    torch.testing.assert_close(layer(x), expected(x))
    layer.to_float()
    assert type(layer) is quant_class.float_class
    torch.testing.assert_close(layer(x), before, rtol=0, atol=0)
    assert sum(calls) == 4  # this hook and its copies saw every call
    handle.remove()
    layer(x)
    assert sum(calls) == 4


def test_a_failed_conversion_leaves_the_layer_alone() -> None:
    layer = nn.Linear(3, 2)
    with pytest.raises(ConfigurationError, match="Did you mean 'sign'"):
        QuantLinear.from_float(layer, weight_quantizer="sgin")
    assert type(layer) is nn.Linear
    with pytest.raises(ConfigurationError, match="takes a Conv2d"):
        QuantConv2d.from_float(layer)
    circular = nn.Conv2d(2, 2, 3, padding_mode="circular")
    with pytest.raises(ConfigurationError, match="pad_value"):
        QuantConv2d.from_float(circular, weight_quantizer="sign", pad_value=1.0)
    assert type(circular) is nn.Conv2d
    assert circular(torch.randn(1, 2, 5, 5)).shape == (1, 2, 3, 3)
    with pytest.raises(ConfigurationError, match="indices"):
        QuantEmbedding.from_float(nn.Embedding(3, 2), input_quantizer="sign")
    with pytest.raises(ConfigurationError, match="dense gradient"):
        QuantEmbedding(3, 2, sparse=True)


def test_transposed_channel_scale_is_per_output_channel() -> None:
    for layer in (
        QuantConvTranspose2d(3, 4, 2, weight_quantizer={"map": "sign", "scale": "channel_mean"}),
        QuantConvTranspose1d(3, 4, 2, weight_quantizer={"map": "sign", "scale": "channel_mean"}),
    ):
        axes = [d for d in range(layer.weight.dim()) if d != 1]
        magnitudes = layer.quantized_weight().abs().amax(axes)
        torch.testing.assert_close(magnitudes, layer.weight.abs().mean(axes))


def test_embedding_looks_up_quantized_rows() -> None:
    layer = QuantEmbedding(5, 3, weight_quantizer={"map": "sign", "scale": "channel_mean"})
    rows = layer(torch.tensor([4, 4, 0]))
    torch.testing.assert_close(rows, layer.quantized_weight()[[4, 4, 0]])


MASKS: list[dict[str, Any]] = [
    {},
    {"attn_mask": torch.ones(5, 5, dtype=torch.bool).triu(1)},
    {"attn_mask": torch.randn(2 * 3, 5, 5)},
    {"key_padding_mask": torch.tensor([[False] * 4 + [True], [False] * 3 + [True] * 2])},
    {"need_weights": False},
    {"average_attn_weights": False},
]


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("options", MASKS)
def test_attention_without_quantizers_is_torch_attention(
    options: dict[str, Any], batch_first: bool
) -> None:
    plain = nn.MultiheadAttention(12, 3, batch_first=batch_first).eval()
    layer = QuantMultiheadAttention.from_float(copy.deepcopy(plain)).eval()
    x = torch.randn(2, 5, 12) if batch_first else torch.randn(5, 2, 12)
    expected, weights = plain(x, x, x, **options)
    ours, our_weights = layer(x, x, x, **options)
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)
    assert (our_weights is None) == (weights is None)
    if weights is not None:
        torch.testing.assert_close(our_weights, weights, rtol=1e-5, atol=1e-6)
    assert type(layer.to_float()) is nn.MultiheadAttention
    torch.testing.assert_close(layer(x, x, x, **options)[0], expected)


def test_attention_quantizes_projections_scores_and_output() -> None:
    torch.manual_seed(0)
    layer = QuantMultiheadAttention(8, 2, batch_first=True, score_quantizer="step")
    x = torch.randn(2, 4, 8, requires_grad=True)
    y, scores = layer(x, x, x, average_attn_weights=False)
    assert set(scores.unique().tolist()) <= {0.0, 1.0}
    assert set(layer.quantized_weight().unique().tolist()) == {-1.0, 1.0}
    assert isinstance(layer.out_proj, QuantLinear)
    y.sum().backward()
    assert x.grad is not None
    assert layer.in_proj_weight.grad.abs().sum() > 0
    plain_keys = nn.MultiheadAttention(8, 2).state_dict().keys()
    assert layer.state_dict().keys() == plain_keys
    unbatched = torch.randn(4, 8)
    assert layer(unbatched, unbatched, unbatched)[0].shape == (4, 8)
    with pytest.raises(ConfigurationError, match="one width"):
        QuantMultiheadAttention(8, 2, kdim=4)


def test_rsign_and_rprelu() -> None:
    rsign, rprelu = RSign(3, rule="clipped"), RPReLU(3)
    with torch.no_grad():
        rsign.bias.copy_(torch.tensor([0.0, 1.0, -1.0]))
        rprelu.shift.copy_(torch.tensor([0.0, 1.0, -1.0]))
        rprelu.offset.copy_(torch.tensor([0.5, 0.0, 0.0]))
    x = torch.full((2, 3, 2, 2), -0.5)
    assert rsign(x)[0, :, 0, 0].tolist() == [-1.0, 1.0, -1.0]
    torch.testing.assert_close(
        rprelu(x)[0, :, 0, 0], torch.tensor([-0.125 + 0.5, 0.5, -1.5 * 0.25])
    )
    rsign(x).sum().backward()
    torch.testing.assert_close(rsign.bias.grad, torch.tensor([8.0, 8.0, 0.0]))
    assert rprelu(x[:, :, 0, 0].bfloat16()).dtype == torch.bfloat16
    with pytest.raises(ConfigurationError, match="channels"):
        RSign(0)


def test_binary_presets() -> None:
    torch.manual_seed(0)
    conv = BinaryConv2d(2, 3, 3, padding=1, bias=False, rule="approx")
    x = torch.randn(1, 2, 4, 4)
    padded = F.pad(SF.hard_sign(x), (1, 1, 1, 1), value=1.0)
    torch.testing.assert_close(conv(x), F.conv2d(padded, SF.hard_sign(conv.weight)))
    for one in (BinaryConv1d(2, 3, 3, padding=1), BinaryConv3d(2, 3, 3, padding=1)):
        assert one.pad_value == 1.0
        y = one(torch.randn(1, 2, *[4] * (one.weight.dim() - 2)))
        bias = one.bias.detach().view(1, -1, *[1] * (y.dim() - 2))
        assert ((y - bias).round() - (y - bias)).abs().max() < 1e-5  # integers, also at the rim
    linear = BinaryLinear(4, 2, rule="swish")
    assert linear.weight_quantizer.rule.name == linear.input_quantizer.rule.name == "swish"


def test_ternary_and_bitnet_presets() -> None:
    torch.manual_seed(0)
    x = torch.randn(5, 16)
    ternary, bit = TernaryLinear(16, 8), BitLinear(16, 8)
    for layer in (ternary, bit):
        levels = layer.quantized_weight().unique()
        assert len(levels) == 3
        torch.testing.assert_close(levels[0], -levels[2])
    torch.testing.assert_close(ternary(x), F.linear(x, ternary.quantized_weight(), ternary.bias))
    scale = x.abs().amax(1, keepdim=True) / 127
    expected = F.linear((x / scale).round() * scale, bit.quantized_weight())
    torch.testing.assert_close(bit(x), expected)
