"""Runs of packed convolutions are QLinearConv in ONNX, with the codes of the packed network."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from ste_lightning import deploy
from ste_lightning.deploy.export import export, runtime
from ste_lightning.deploy.export.requantized import Sums, of_thresholds
from ste_lightning.deploy.fusion.requantize import Emission
from ste_lightning.layers import QuantConv1d, QuantConv2d


@pytest.mark.parametrize("count", [1, 3, 15])
@pytest.mark.parametrize("unit", [1.0, 127.5])
def test_thresholds_are_one_rounding(count, unit):
    rng = np.random.default_rng(count)
    channels, bound = 6, 200
    steps = rng.uniform(3, 12, channels)
    t = np.ceil(np.arange(count)[:, None] * steps - rng.uniform(0, 90, channels)).astype(np.int64)
    t[:, 0] += 500  # out of reach
    falling = np.arange(channels) % 2 == 1
    least = np.where(falling, 1 - t, t)
    shift = unit * 2.0 * rng.integers(-20, 20, channels)
    sums = Sums(unit, shift, bound, 7, 15)
    found = of_thresholds(Emission(least, falling, np.zeros(channels, np.uint8)), sums)
    assert found is not None
    k = np.arange(-bound, bound + 1)[:, None]
    x = (found.multiple * (unit * k - shift) + found.bias).astype(np.float32) * found.scale
    codes = np.clip(np.round(x), 0, 255 if count == 1 else count)
    reached = np.where(falling, k[:, None] < least, k[:, None] >= least).sum(1)
    assert np.array_equal(codes, reached * (255 if count == 1 else 1))
    assert (np.abs(found.multiple) * 7 < 128).all()


def test_thresholds_of_no_line_have_none():
    least = np.array([[0], [1], [40]])
    nothing = Emission(least, np.zeros(1, bool), np.zeros(1, np.uint8))
    assert of_thresholds(nothing, Sums(1.0, np.zeros(1), 200, 7, 15)) is None


def network(weight, inputs, pad=0.0):
    """Convolutions beside each other, pooled, clipped, of single channels; then a linear layer."""
    torch.manual_seed(0)
    given = {"weight_quantizer": weight, "input_quantizer": inputs, "bias": False}
    net = nn.Sequential(
        nn.Conv2d(2, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        QuantConv2d(8, 8, 3, padding=1, pad_value=pad, **given),
        nn.MaxPool2d(2),
        nn.BatchNorm2d(8),
        nn.ReLU6(),
        QuantConv2d(8, 8, 3, padding=1, pad_value=pad, groups=8, **given),
        nn.BatchNorm2d(8),
        QuantConv2d(8, 6, (1, 1), **given),
        nn.BatchNorm2d(6),
        nn.Hardtanh(-0.5, 2.0),
        QuantConv2d(6, 5, 3, stride=2, padding=1, pad_value=pad, **given),
        nn.Flatten(),
    ).train()
    for module in net:
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    for _ in range(3):
        net(torch.randn(16, 2, 12, 10))
    return net.eval()


CASES = {  # weights, inputs, padding, whether every code is the packed network's
    "4 bits": ({"map": "uniform", "bits": 4}, {"map": "uniform", "bits": 4}, 0.0, True),
    "binary": ("sign", "sign", 1.0, True),
    "binary, padded with 0": ("sign", "sign", 0.0, True),
    "8 bits": ({"map": "uniform", "bits": 8}, {"map": "uniform", "bits": 8}, 0.0, False),
}


@pytest.mark.parametrize(
    "case", ["4 bits", *[pytest.param(c, marks=pytest.mark.slow) for c in list(CASES)[1:]]]
)
def test_networks(case, tmp_path):
    onnx = pytest.importorskip("onnx")
    for package in ("onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    *quantizers, exact = CASES[case]
    net, x = network(*quantizers), torch.randn(9, 2, 12, 10)
    packed = deploy.pack(net, x)
    path = export(packed, tmp_path / "net", "onnx", x, dynamic="all", target="onnxruntime")
    for given in (x, torch.randn(2, 2, 9, 15)):  # all sizes are free
        y, expected = runtime(path, "onnx")(given), packed(given)
        far = (y - expected).abs().max() / expected.abs().max()
        assert far < (1e-5 if exact else 0.02)
    graph = onnx.load(path).graph
    kinds = [node.op_type for node in graph.node]
    # Without thresholds for its sums, a batch norm after a pooling is one of floats.
    assert kinds.count("QLinearConv") == (3 if exact else 2)
    assert kinds.count("QuantizeLinear") + kinds.count("GreaterOrEqual") == (1 if exact else 2)
    made = {node.output[0]: node for node in graph.node}
    chain = [n for n in graph.node if n.op_type == "QLinearConv"]
    for before, after in pairwise(chain):  # nothing but bytes between them
        name = after.input[0]
        while name != before.output[0]:
            assert made[name].op_type in ("Min", "Clip", "MaxPool", "Identity")
            name = made[name].input[0]


def test_floats_between_bytes_are_not_rounded(tmp_path):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    torch.manual_seed(0)
    eight = {"map": "lsq", "bits": 8}
    given = {"weight_quantizer": eight, "input_quantizer": eight, "bias": False}
    net = nn.Sequential(
        nn.Conv1d(8, 24, 5, 2),
        nn.ReLU(),
        QuantConv1d(24, 24, 3, groups=24, **given),
        nn.BatchNorm1d(24),
        nn.ReLU(),
        QuantConv1d(24, 32, 1, **given),
        nn.BatchNorm1d(32),  # the last step
    ).train()
    for _ in range(3):
        net(torch.randn(16, 8, 40))
    packed = deploy.pack(net.eval(), x := torch.randn(24, 8, 40))
    y = runtime(export(packed, tmp_path / "net", "onnx", x), "onnx")(x)
    assert (y - packed(x)).abs().max() < 1e-5 * packed(x).abs().max()
