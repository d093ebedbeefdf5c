"""Forward products of integer levels equal the products of the quantized floats."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from training_pairs import loss_curve

from ste_lightning.deploy import pack
from ste_lightning.functional.products import integer_forward, popcount_forward, quantized
from ste_lightning.functional.products.integer_forward import _fits
from ste_lightning.functional.products.operand import Integers, Levels
from ste_lightning.functional.products.specification import ConvolutionGeometry
from ste_lightning.functional.saved.codes import Grid
from ste_lightning.kernels import Codes
from ste_lightning.layers import QuantConv2d, QuantLinear


@pytest.fixture(autouse=True)
def _small_products_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integer_forward, "counting_pays", lambda *_: True)


Ends = tuple[int, int]


def product_of(
    x: Tensor,
    weight: Tensor,
    of_inputs: Ends,
    of_weights: Ends,
    bias: Tensor | None = None,
    geometry: ConvolutionGeometry | None = None,
    zero: int = 0,
) -> Tensor | None:
    """Multiply levels of steps 1/4 and 1/8."""
    found = Grid(0.25, zero, *of_inputs).codes(x, masked=False)
    if found is None:
        return None
    steps = np.full(len(weight), 0.125, np.float32)
    inputs = Levels(*of_inputs, zero, 0.25)
    return integer_forward.level_product(
        found[0], inputs, Integers(weight, steps, *of_weights), bias, geometry
    )


def levels(x: Tensor, step: float, ends: Ends, zero: int = 0) -> Tensor:
    return ((x / step + zero).clamp(*ends).round() - zero).double()


RANGES = st.sampled_from([(-2, 1), (-8, 7), (-7, 7), (0, 15), (0, 3), (-128, 127), (0, 255)])


@settings(max_examples=60, deadline=None)
@given(
    st.data(),
    RANGES,
    RANGES.filter(lambda ends: ends[1] < 128),
    st.integers(1, 70),
    st.integers(1, 150),
    st.integers(1, 80),
)
def test_linear_sums_are_exact(
    data: st.DataObject,
    of_inputs: Ends,
    of_weights: Ends,
    rows: int,
    channels: int,
    outputs: int,
) -> None:
    torch.manual_seed(data.draw(st.integers(0, 999)))
    x, w = 3 * torch.randn(rows, channels), 2 * torch.randn(outputs, channels)
    zero = data.draw(st.integers(0, 9))
    y = product_of(x, w, of_inputs, of_weights, zero=zero)
    exact = levels(x, 0.25, of_inputs, zero) @ levels(w, 0.125, of_weights).T / 32
    assert y is not None
    assert torch.equal(y, exact.float())


@settings(max_examples=40, deadline=None)
@given(
    st.data(),
    st.sampled_from([(-8, 7), (0, 3), (0, 255)]),
    st.sampled_from([1, 2, 3]),
    st.integers(1, 2),
)
def test_convolutions_of_every_geometry(
    data: st.DataObject, of_inputs: Ends, groups: int, dims: int
) -> None:
    torch.manual_seed(data.draw(st.integers(0, 999)))
    small = st.integers(1, 3)
    kernel, stride, dilation = (tuple(data.draw(small) for _ in range(dims)) for _ in range(3))
    padding = tuple(data.draw(st.integers(0, 2)) for _ in range(dims))
    channels, outputs = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 40))
    x = 3 * torch.randn(data.draw(small), groups * channels, *[9] * dims)
    w = torch.randn(groups * outputs, channels, *kernel)
    g, of_weights = ConvolutionGeometry(stride, padding, dilation, groups), (-8, 7)
    zero = data.draw(st.integers(0, 9))
    y = product_of(x, w, of_inputs, of_weights, None, g, zero)
    quantized = levels(x, 0.25, of_inputs, zero), levels(w, 0.125, of_weights)
    convolve: Any = (F.conv1d, F.conv2d)[dims - 1]
    exact = convolve(*quantized, None, stride, padding, dilation, groups)
    assert y is not None
    assert y.is_contiguous()
    assert torch.equal(y, (exact / 32).float())


@pytest.mark.parametrize("operand", ["x", "weight", "last x", "last weight"])
def test_what_is_no_number_is_left_to_floats(operand: str) -> None:
    x, w = torch.randn(6, 37), torch.randn(9, 37)
    target = x if operand.endswith("x") else w
    target[(-1, -1) if "last" in operand else (2, 3)] = math.nan
    assert product_of(x, w, (-8, 7), (-8, 7)) is None


def test_infinities_are_clipped() -> None:
    x, w = torch.full((3, 40), math.inf), torch.full((5, 40), -math.inf)
    y = product_of(x, w, (-8, 7), (-8, 7), torch.ones(5))
    assert y is not None
    assert torch.equal(y, torch.full((3, 5), 40 * 7 * -8 / 32 + 1))


@pytest.mark.parametrize(
    ("of_inputs", "of_weights", "length"),
    [((0, 511), (-8, 7), 20), ((-8, 7), (0, 255), 20), ((0, 255), (-128, 127), 1 << 16)],
)
def test_levels_and_sums_beyond_the_kernels_are_left_to_floats(
    of_inputs: Ends, of_weights: Ends, length: int
) -> None:
    x, w = torch.randn(2, length), torch.randn(3, length)
    assert product_of(x, w, of_inputs, of_weights) is None


def test_three_million_bytes_times_signs_still_fit() -> None:
    codes = Codes(8, 1, 0)
    assert _fits(codes, -1, 1, 3 << 20)
    assert not _fits(codes, -1, 1, 1 << 22)


FOUR: dict[str, Any] = {"map": "lsq", "bits": 4}


def network() -> nn.Sequential:
    torch.manual_seed(0)
    unsigned = {**FOUR, "signed": False}
    return nn.Sequential(
        QuantConv2d(3, 16, 3, padding=1, weight_quantizer=FOUR, input_quantizer=None),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        QuantConv2d(16, 20, 3, 2, 1, weight_quantizer=FOUR, input_quantizer=unsigned),
        nn.BatchNorm2d(20),
        nn.Flatten(),
        QuantLinear(20 * 9, 10, weight_quantizer=FOUR, input_quantizer=FOUR),
    )


def test_gradients_are_those_of_the_float_product(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = QuantConv2d(8, 40, 3, padding=1, weight_quantizer=FOUR, input_quantizer=FOUR)
    x, upstream = torch.randn(4, 8, 7, 7), torch.randn(4, 40, 7, 7)
    layer(x)
    found = []
    for summed in (True, False):
        if not summed:
            monkeypatch.setattr(quantized, "level_product", lambda *_: None)
        leaf = x.clone().requires_grad_()
        y = layer(leaf)
        found.append((y, torch.autograd.grad(y, [leaf, *layer.parameters()], upstream)))
    (y, grads), (expected, expected_grads) = found
    torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)
    assert not torch.equal(y, expected)  # two different products
    for ours, other in zip(grads, expected_grads, strict=True):
        assert torch.equal(ours, other)


def test_training_follows_the_float_product(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)  # where a float lies at a tie of two levels, the curves part
    x, y = torch.randn(32, 3, 6, 6), torch.randint(10, (32,))
    curves = []
    for summed in (True, False):
        if not summed:
            monkeypatch.setattr(quantized, "level_product", lambda *_: None)
        net = network()
        curves.append(loss_curve(net, torch.optim.SGD(net.parameters(), 0.05), x, y))
    assert curves[0][-1] < 0.1 * curves[0][0]
    torch.testing.assert_close(curves[0][:20], curves[1][:20], rtol=1e-3, atol=1e-4)
    assert abs(curves[0] - curves[1]).mean() < 0.02


def test_a_layer_in_training_computes_what_its_packed_layer_does() -> None:
    layer = QuantLinear(300, 90, weight_quantizer=FOUR, input_quantizer=FOUR)
    x = torch.randn(64, 300)
    net = nn.Sequential(layer)
    net(x)
    packed = pack(net.eval())
    assert torch.equal(net(x), packed(x))


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_share_large_layers(threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        x, w = torch.randn(400, 1100), torch.randn(1001, 1100)
        y = product_of(x, w, (-8, 7), (-8, 7))
    finally:
        torch.set_num_threads(before)
    exact = levels(x, 0.25, (-8, 7)) @ levels(w, 0.125, (-8, 7)).T / 32
    assert y is not None
    assert torch.equal(y, exact.float())


def test_small_products_stay_with_floats() -> None:
    assert not popcount_forward.counting_pays(4, 1024, 1024)
    assert not popcount_forward.counting_pays(64, 16, 8)
    assert popcount_forward.counting_pays(256, 1024, 1024)


def test_threads_do_not_share_room() -> None:
    torch.manual_seed(0)
    operands = [(torch.randn(60, 200), torch.randn(70 + i, 200)) for i in range(4)]
    expected = [product_of(x, w, (-8, 7), (-8, 7)) for x, w in operands]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(25):
            found = pool.map(lambda pair: product_of(*pair, (-8, 7), (-8, 7)), operands)
            for ours, other in zip(found, expected, strict=True):
                assert ours is not None
                assert other is not None
                assert torch.equal(ours, other)
