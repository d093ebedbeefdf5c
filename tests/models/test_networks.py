"""The networks of the literature: parameters and products as published, float twins, packing."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from ste_lightning.convert import summary
from ste_lightning.errors import ConfigurationError
from ste_lightning.layers import QuantizedLayer
from ste_lightning.models.networks import (
    CNV,
    LFC,
    SFC,
    TFC,
    ConvNet,
    ResNet,
    ResNet18,
    ResNet20,
    VGGSmall,
)

FLOAT = {"weight_quantizer": None, "input_quantizer": None}


def weights(network, binary):
    """The number of weights of products in quantized layers, or in float ones."""
    return sum(
        math.prod(module.weight.shape)
        for module in network.modules()
        if isinstance(module, (nn.Linear, nn.Conv2d))
        and (isinstance(module, QuantizedLayer) and module.weight_quantizer is not None) == binary
    )


def products(network, *shape):
    return sum(summary(network, torch.zeros(2, *shape)).macs.values())


@pytest.mark.parametrize(
    ("made", "shape", "binary", "real"),
    [
        # FINN, table 3: LFC 2.9 million weights, 5.8 million operations
        (TFC, (1, 28, 28), 59_008, 0),
        (SFC, (1, 28, 28), 334_336, 0),
        (LFC, (1, 28, 28), 2_910_208, 0),
        # FINN, table 3: 1.6 million weights
        (CNV, (3, 32, 32), 1_542_848, 0),
        # IR-Net and others: 4.66 million weights, all but 85 thousand binary
        (VGGSmall, (3, 32, 32), 4_571_136, 3 * 128 * 9 + 81_920),
        # He et al., section 4.2: 0.27 million
        (ResNet20, (3, 32, 32), 267_264, 432 + 640),
        (ResNet18, (3, 32, 32), 10_985_472, 1_728 + 172_032 + 5_120),
    ],
)
def test_weights_are_those_of_the_papers(made, shape, binary, real):
    network = made()
    assert (weights(network, True), weights(network, False)) == (binary, real)
    assert network(torch.rand(2, *shape)).shape == (2, 10)
    twin = made(**FLOAT)
    if made is VGGSmall:  # named by place, and a ReLU takes one
        twin.load_state_dict(
            dict(zip(twin.state_dict(), network.state_dict().values(), strict=True))
        )
    else:
        state = network.state_dict()  # with the step of CNV's pixels
        twin.load_state_dict({key: state[key] for key in twin.state_dict()})


def test_all_parameters_of_the_residual_networks_are_those_of_the_papers():
    def count(network):
        return sum(p.numel() for p in network.parameters())

    assert count(ResNet20(**FLOAT)) == 269_722
    assert count(ResNet18(shortcut="strided", **FLOAT)) == 11_173_962
    imagenet = ResNet18(classes=1000, large=True, shortcut="strided", **FLOAT)
    assert count(imagenet) == 11_689_512


def test_products_are_those_of_the_papers():
    assert products(LFC(), 1, 28, 28) == 2_910_208
    assert products(CNV(), 3, 32, 32) == 59_461_376
    assert products(ResNet20(), 3, 32, 32) == 40_551_040


@pytest.mark.parametrize("placement", ["single", "double"])
@pytest.mark.parametrize("shortcut", ["pad", "pooled", "strided"])
def test_residual_networks_train_with_every_shortcut(placement, shortcut):
    torch.manual_seed(0)
    network = ResNet([1, 1], [4, 8], 1, 3, placement, shortcut)
    network(torch.randn(4, 1, 9, 9)).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    convolutions = [m for m in network.modules() if isinstance(m, QuantizedLayer)]
    assert len(convolutions) == 4
    assert all(m.weight.grad.abs().sum() > 0 for m in convolutions)


def test_real_numbers_run_along_the_shortcuts():
    network = ResNet([1], [4], 1, 2, "double").eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.zeros_(module.weight)  # nothing but the shortcuts is left of the blocks
    nn.init.ones_(network.stem[1].weight)
    x = torch.randn(2, 1, 5, 5)
    kept = network.stages(network.stem(x))
    torch.testing.assert_close(kept, network.stem(x))


def test_ends_are_float_where_that_is_asked_for():
    network = LFC(ends=False)
    layers = [m for m in network if isinstance(m, nn.Linear)]
    assert [m.weight_quantizer is None for m in layers] == [True, False, False, True]


def test_vgg_small_narrowed_for_28_pixels():
    network = VGGSmall((1, 28, 28), width=8)
    assert isinstance(network, ConvNet)
    assert network(torch.rand(2, 1, 28, 28)).shape == (2, 10)


def test_residual_networks_change_their_precision_like_any_module():
    network = ResNet([1, 1], [4, 8], 1, 3).double().eval()
    assert network(torch.rand(2, 1, 5, 5, dtype=torch.float64)).dtype == torch.float64


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"placement": "dual"}, "Known: double, single"),
        ({"shortcut": "padded"}, "Did you mean 'pad'"),
        ({"blocks": [1]}, "equally many"),
        ({"classes": 1}, "two or more"),
    ],
)
def test_networks_that_cannot_be_are_refused(options, words):
    with pytest.raises(ConfigurationError, match=words):
        ResNet(**{"blocks": [1, 1], "widths": [4, 8], **options})


def test_vgg_small_halves_its_pictures_after_every_second_convolution():
    net, sizes = VGGSmall(width=4).eval(), []
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda m, x, y: sizes.append((y.shape[1], y.shape[-1])))
    net(torch.zeros(1, 3, 32, 32))
    assert sizes == [(4, 32), (4, 32), (8, 16), (8, 16), (16, 8), (16, 8)]


@pytest.mark.parametrize("cls", [ResNet20, VGGSmall])
def test_ten_classes_unless_said(cls):
    assert cls(width=4).eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 10)
