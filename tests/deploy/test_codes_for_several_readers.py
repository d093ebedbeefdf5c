"""Codes of several bits that more than one packed layer reads."""

import pytest
import torch
from packed_pairs import both, calls, coded, exact, noisy, quantizers
from torch import nn

from ste_lightning import deploy
from ste_lightning.deploy.fusion.code_layers import Encoder
from ste_lightning.kernels import default_format
from ste_lightning.layers import QuantConv2d

pytestmark = pytest.mark.skipif(default_format() == "torch", reason="numba is missing")


class Block(nn.Module):
    """A residual block of integers: codes are read by a convolution and by the shortcut."""

    def __init__(self, bits, pooled):
        super().__init__()
        kinds = quantizers(2, bits, False)
        self.stem = QuantConv2d(4, 16, 3, padding=1, bias=False, **kinds)
        self.norm = nn.BatchNorm2d(16)
        self.pool = nn.MaxPool2d(2) if pooled else nn.Identity()
        self.first = QuantConv2d(16, 16, 3, padding=1, bias=False, **kinds)
        self.inner = nn.BatchNorm2d(16)
        self.second = QuantConv2d(16, 24, 3, padding=1, bias=False, **kinds)
        self.shortcut = QuantConv2d(16, 24, 1, bias=False, **kinds)

    def forward(self, x):
        x = self.pool(self.norm(self.stem(x)))
        y = self.second(self.inner(self.first(x)))
        return y + self.shortcut(x)


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("bits", [1, 2, 4])
def test_one_layers_codes_for_several_readers(bits, pooled):
    torch.manual_seed(1)
    network = exact(Block(bits, pooled), 0)
    one, other = network.first.input_quantizer, network.shortcut.input_quantizer
    if bits > 1:
        other.scale.data = one.scale.data.clone()
    packed = deploy.pack(network)
    x = torch.randn(5, 4, 12, 14)
    expected, found = both(network, x, packed)
    assert torch.equal(found, expected)
    assert "norm" not in str(calls(packed))
    assert coded(packed) >= 1
    if bits > 1:  # other steps, other codes: then floats are handed on
        other.scale.data *= 2
        packed = deploy.pack(network)
        expected, found = both(network, x, packed)
        assert torch.equal(found, expected)
        assert coded(packed) == 1  # from the first to the second


class TwoPools(nn.Module):
    """The largest sums are asked for, and the largest of what batch norm makes of the sums."""

    def __init__(self):
        super().__init__()
        kinds = {"weight_quantizer": {"map": "sign", "scale": "channel_mean"}}
        self.stem = QuantConv2d(4, 16, 3, bias=False, **kinds)
        self.norms = nn.ModuleList([nn.BatchNorm2d(16), nn.BatchNorm2d(16)])
        self.pool = nn.MaxPool2d(2)
        self.ends = nn.ModuleList([QuantConv2d(16, 8, 1, bias=False) for _ in "ab"])

    def forward(self, x):
        y = self.stem(x)
        first = self.ends[0](self.norms[0](self.pool(y)))
        return first + self.ends[1](self.pool(self.norms[1](y)))


def test_poolings_that_want_the_sums_with_other_signs():
    torch.manual_seed(0)
    network = noisy(TwoPools())
    expected, found = both(network, torch.randn(3, 4, 12, 14), deploy.pack(network))
    assert torch.equal(found, expected)


@pytest.mark.parametrize("watched", ["", "first", "shortcut"])
def test_floats_that_several_layers_quantize_alike_are_quantized_once(watched):
    torch.manual_seed(0)
    network = Block(3, False)
    network.stem = nn.Conv2d(4, 16, 3, padding=1)
    network = exact(network, 1)
    network.shortcut.input_quantizer.scale.data = network.first.input_quantizer.scale.data
    packed = deploy.pack(network)
    x = torch.randn(5, 4, 16, 16)
    expected, found = both(network, x, packed)
    assert torch.equal(found, expected)
    assert "norm" not in str(calls(packed))
    assert sum(isinstance(call, Encoder) for call in calls(packed)) == 1
    if watched:
        seen = []
        packed.layer(watched).register_forward_pre_hook(lambda m, args: seen.append(args[0]))
        assert torch.equal(packed(x), expected)
        assert seen[0].dtype == torch.float32
    network.shortcut.input_quantizer.scale.data = network.first.input_quantizer.scale.data * 2
    packed = deploy.pack(network)
    expected, found = both(network, x, packed)
    assert torch.equal(found, expected)
    assert not any(isinstance(call, Encoder) for call in calls(packed))
