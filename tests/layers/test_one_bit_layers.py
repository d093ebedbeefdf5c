"""Layers train with one bit per activation by themselves, and step aside where they must."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from ste_lightning.layers import QuantConv2d, QuantLinear
from ste_lightning.layers.one_bit import one_bit_specification
from ste_lightning.quantizers import Sign, Step


def plain(net: nn.Module) -> nn.Module:
    """The same network, kept off the one-bit path: a hook must see every call."""
    net = copy.deepcopy(net)
    for module in net.modules():
        if isinstance(module, (Sign, Step)):
            module.register_forward_hook(lambda *_: None)
    return net


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        QuantConv2d(3, 8, 3, padding=1, input_quantizer=None, bias=False),
        nn.BatchNorm2d(8),
        QuantConv2d(8, 8, 3, padding=1, pad_value=1.0, bias=False),
        nn.BatchNorm2d(8),
        nn.Flatten(),
        QuantLinear(8 * 36, 16, bias=False, input_quantizer="step"),
        nn.BatchNorm1d(16),
        QuantLinear(16, 4, bias=False),
    )


def test_two_hundred_steps_on_both_paths_are_the_same() -> None:
    torch.manual_seed(1)
    x, y = torch.randn(32, 3, 6, 6), torch.randint(4, (32,))
    curves = []
    for net in (network(), plain(network())):
        optimizer = torch.optim.Adam(net.parameters(), 0.01)
        curve = []
        for _ in range(200):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(net(x), y)
            loss.backward()
            optimizer.step()
            curve.append(loss.item())
        curves.append(curve)
    assert curves[0] == curves[1]
    assert curves[0][-1] < 0.3 * curves[0][0]


@pytest.mark.parametrize(
    ("weights", "inputs", "expected"),
    [
        (Sign(), Sign(), True),
        (Sign("approx"), Step("clipped_relu"), True),
        (Sign(scale="channel_mean"), None, True),
        (Sign(scale="channel_mean", detach_scale=False), Sign(), False),
        (Sign(), Sign("approx"), True),  # the input waits, and no bits
        (Sign(), Sign(scale="tensor_mean"), False),
        (None, Sign(), False),
        (Sign(), nn.Hardtanh(), False),
    ],
)
def test_which_quantizers_take_the_path(weights: Any, inputs: Any, expected: bool) -> None:
    assert (one_bit_specification(weights, inputs) is not None) == expected


def test_hooks_autocast_and_vmap_see_the_plain_composition() -> None:
    layer = QuantLinear(8, 4)
    x = torch.randn(3, 8)
    expected = layer(x)
    seen: list[torch.Tensor] = []
    handle = layer.input_quantizer.register_forward_hook(lambda m, i, o: seen.append(o))
    layer(x)
    assert len(seen) == 1
    handle.remove()
    torch.testing.assert_close(torch.func.vmap(layer)(x), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
def test_unbatched_and_same_padded_convolutions() -> None:
    for kwargs in ({"padding": "same"}, {"padding": "same", "kernel_size": 4}, {"padding": 2}):
        layer = QuantConv2d(2, 3, **{"kernel_size": 3, **kwargs})
        x = torch.randn(2, 2, 7, 7)
        torch.testing.assert_close(layer(x), plain(layer)(x))
        torch.testing.assert_close(layer(x[0]), layer(x)[0])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_traced_layers_compute_with_torch_operators() -> None:
    layer = QuantLinear(600, 64)
    traced = torch.jit.trace(layer, torch.randn(512, 600))
    x = torch.randn(512, 600)
    torch.testing.assert_close(traced(x), layer(x))


def test_a_layer_says_which_path_it_takes(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG", logger="ste_lightning"):
        QuantLinear(8, 4)(torch.randn(3, 8))
        QuantLinear(1024, 4)(torch.randn(256, 1024))
    assert "small: keeps its operands" in caplog.messages[0]
    assert "keeps one bit per input, float product" in caplog.messages[1]


@pytest.mark.slow
def test_a_thousand_steps_leave_memory_flat() -> None:
    resource = pytest.importorskip("resource")
    net = network()
    x = torch.randn(32, 3, 6, 6)

    def steps(count: int) -> None:
        for _ in range(count):
            net.zero_grad()
            net(x).square().mean().backward()

    steps(100)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    steps(1000)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 8 << 10  # KiB
