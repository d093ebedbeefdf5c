"""Layers with uniform grids keep codes and masks, and train as the plain composition does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from training_pairs import loss_curve, watched

from ste_lightning.functional.products import integer_forward
from ste_lightning.layers import QuantConv1d, QuantConv2d, QuantLinear
from ste_lightning.quantizers import Uniform

FOUR: dict[str, Any] = {"map": "uniform", "bits": 4}


def plain(net: nn.Module) -> nn.Module:
    return watched(net, Uniform)


def derivatives(layer: nn.Module, x: Tensor) -> tuple[Tensor, ...]:
    leaf = x.detach().requires_grad_()
    y = layer(leaf if x.is_contiguous() else leaf.movedim(0, -1).contiguous().movedim(-1, 0))
    torch.manual_seed(5)
    return y, *torch.autograd.grad(y, [leaf, *layer.parameters()], torch.randn_like(y))


def equal(layer: nn.Module, x: Tensor, exact: bool) -> None:
    """Check outputs, gradients and what the running ranges have seen."""
    other = plain(layer)
    (y, *grads), (expected, *expected_grads) = derivatives(layer, x), derivatives(other, x)
    if exact:
        assert torch.equal(y, expected)
    else:
        torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(grads, expected_grads, strict=True):
        assert torch.equal(ours, theirs)
    for ours, theirs in zip(layer.buffers(), other.buffers(), strict=True):
        assert torch.equal(ours, theirs)


WEIGHTS: list[dict[str, Any]] = [
    {},
    {"bits": 2},
    {"bits": 8},
    {"granularity": "tensor"},
    {"granularity": "group", "group_size": 5},
    {"range": "mse"},
    {"symmetric": False},
]
INPUTS: list[dict[str, Any] | None] = [
    {},
    {"bits": 8},
    {"bits": 5},
    {"bits": 1},
    {"symmetric": True},
    None,
]


@pytest.mark.parametrize("integers", [False, True])
@pytest.mark.parametrize("of_inputs", INPUTS)
@pytest.mark.parametrize("of_weights", WEIGHTS)
def test_linear_layers(
    of_weights: dict[str, Any],
    of_inputs: dict[str, Any] | None,
    integers: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(integer_forward, "counting_pays", lambda *_: integers)
    torch.manual_seed(0)
    inputs = None if of_inputs is None else {**FOUR, **of_inputs}
    layer = QuantLinear(35, 21, weight_quantizer={**FOUR, **of_weights}, input_quantizer=inputs)
    for _ in range(2):  # the running range cuts the second batch
        x = torch.randn(3, 17, 35)
        assert layer.lean_product(x.requires_grad_()) is not None
        equal(layer, x, exact=not integers or inputs is None)
    layer.eval()
    equal(layer, 2 * x, exact=not integers or inputs is None)


def test_channels_along_another_axis_take_the_plain_composition() -> None:
    quantizer = Uniform(bits=4, operand="weights", channel_dim=1)
    layer = QuantLinear(12, 5, weight_quantizer=quantizer, input_quantizer=FOUR)
    assert layer.lean_product(torch.randn(3, 12)) is None
    whole = Uniform(bits=4, operand="weights", channel_dim=1, granularity="tensor")
    layer = QuantLinear(12, 5, weight_quantizer=whole, input_quantizer=FOUR)
    equal(layer, torch.randn(3, 12), exact=True)


@pytest.mark.parametrize("integers", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {"padding": 1},
        {"stride": 2, "padding": 2, "dilation": 2},
        {"groups": 2, "bias": False},
        {"padding": 1, "pad_value": 1.0},
    ],
)
@pytest.mark.parametrize("layer_class", [QuantConv1d, QuantConv2d])
def test_convolutions(
    layer_class: Any, options: Any, integers: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(integer_forward, "counting_pays", lambda *_: integers)
    torch.manual_seed(0)
    layer = layer_class(4, 34, 3, weight_quantizer=FOUR, input_quantizer=FOUR, **options)
    x = torch.randn(2, 4, 9) if layer_class is QuantConv1d else torch.randn(2, 4, 9, 8)
    assert type(layer(x).grad_fn).__name__ == "_QuantizedBackward"
    equal(layer, x, exact=not integers)
    equal(layer, x.transpose(1, -1).contiguous().transpose(1, -1), exact=not integers)


@pytest.mark.parametrize(("bits", "share"), [(4, 5 / 32), (3, 5 / 32), (8, 9 / 32)])
def test_keeps_codes_and_one_bit(bits: int, share: float) -> None:
    grid = {**FOUR, "bits": bits}
    layer = QuantLinear(256, 64, weight_quantizer=grid, input_quantizer=grid)
    x = torch.randn(32, 256, requires_grad=True)
    saved: list[Tensor] = []

    def keep(t: Tensor) -> Tensor:
        saved.append(t)
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        layer(x)
    own = {t.untyped_storage().data_ptr() for t in layer.parameters()}
    others = [t for t in saved if t.untyped_storage().data_ptr() not in own]
    assert sum(t.nbytes for t in others) == share * x.nbytes


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        QuantConv2d(3, 16, 3, padding=1, weight_quantizer=FOUR, input_quantizer=None),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        QuantConv2d(16, 20, 3, 2, 1, weight_quantizer=FOUR, input_quantizer=FOUR),
        nn.Flatten(),
        QuantLinear(20 * 9, 10, weight_quantizer=FOUR, input_quantizer=FOUR),
    )


@pytest.mark.parametrize("integers", [False, True])
def test_two_hundred_steps(integers: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integer_forward, "counting_pays", lambda *_: integers)
    torch.manual_seed(1)
    x, y = torch.randn(32, 3, 6, 6), torch.randint(10, (32,))
    curves = [
        loss_curve(net, torch.optim.SGD(net.parameters(), 0.05), x, y)
        for net in (network(), plain(network()))
    ]
    assert curves[0][-1] < 0.2 * curves[0][0]
    if integers:
        torch.testing.assert_close(curves[0][:20], curves[1][:20], rtol=1e-2, atol=1e-3)
        assert abs(curves[0] - curves[1]).mean() < 0.05
    else:
        assert torch.equal(curves[0], curves[1])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("where", ["input", "weight"])
@pytest.mark.parametrize("training", [True, False])
def test_what_is_no_number_spreads_as_in_the_plain_composition(
    bad: float, where: str, training: bool
) -> None:
    layer, x = QuantLinear(8, 5, weight_quantizer=FOUR, input_quantizer=FOUR), torch.randn(4, 8)
    layer(x)
    layer.train(training)
    with torch.no_grad():
        (x if where == "input" else layer.weight)[1, 2] = bad
    other = plain(layer)
    for ours, theirs in zip(derivatives(layer, x), derivatives(other, x), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(
    "options",
    [
        {"weight_quantizer": {**FOUR, "rule": "tanh"}, "input_quantizer": FOUR},
        {"weight_quantizer": {"map": "uniform", "bits": 1}, "input_quantizer": FOUR},
        {"weight_quantizer": {"map": "stochastic_uniform", "bits": 4}, "input_quantizer": None},
    ],
)
def test_other_quantizers_and_transforms_take_the_plain_composition(options: Any) -> None:
    layer, x = QuantLinear(20, 6, **options), torch.randn(5, 20)
    assert layer.lean_product(x) is None
    uniform = QuantLinear(20, 6, weight_quantizer=FOUR, input_quantizer=FOUR)
    uniform(x)
    uniform.eval()
    torch.testing.assert_close(torch.func.vmap(uniform)(x), uniform(x))
    assert uniform.double().lean_product(x.double()) is None
    assert uniform.float()(torch.empty(0, 20)).shape == (0, 6)


@pytest.mark.parametrize(
    ("map_", "width", "inputs", "line"),
    [
        ("uniform", 16, True, "keeps codes of its input, float product"),
        ("uniform", 512, True, "keeps codes of its input, integer product"),
        ("uniform", 512, False, "keeps its float input, float product"),
        ("lsq", 512, True, "keeps its float input, integer product"),
    ],
)
def test_the_log_says_which_path_a_layer_takes(
    map_: str, width: int, inputs: bool, line: str, caplog: pytest.LogCaptureFixture
) -> None:
    four = {"map": map_, "bits": 4}
    layer = QuantLinear(
        width, width, weight_quantizer=four, input_quantizer=four if inputs else None
    )
    x = torch.randn(64, width)
    layer(x)
    with caplog.at_level("DEBUG", logger="ste_lightning"):
        layer(x)
    assert line in caplog.text


def test_a_scheduled_bit_width_takes_the_plain_composition() -> None:
    layer = QuantLinear(20, 6, weight_quantizer=FOUR, input_quantizer=FOUR)
    layer.weight_quantizer.schedule("bits", "linear", start=8, end=4)
    assert layer.lean_product(torch.randn(5, 20)) is None
