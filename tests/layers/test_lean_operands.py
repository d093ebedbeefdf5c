"""Layers with any of the known maps keep codes, masks or floats, and train as the plain ones do."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from training_pairs import loss_curve, watched

from ste_lightning.functional.products import integer_forward, popcount_forward
from ste_lightning.layers import QuantConv2d, QuantLinear, operands
from ste_lightning.quantizers.quantizer import Quantizer

WEIGHTS: dict[str, dict[str, Any]] = {
    "lsq": {"map": "lsq", "bits": 4},
    "lsq per channel": {"map": "lsq", "bits": 3, "granularity": "channel"},
    "lsq_plus": {"map": "lsq_plus", "bits": 4},
    "lsq_plus per channel": {"map": "lsq_plus", "bits": 3, "granularity": "channel"},
    "bitnet": {"map": "bitnet"},
    "bitnet per channel": {"map": "bitnet", "granularity": "channel"},
    "n2uq_weights": {"map": "n2uq_weights", "bits": 3},
    "uniform": {"map": "uniform", "bits": 4},
    "dorefa": {"map": "dorefa", "bits": 4},
    "twn": {"map": "twn"},
    "twn per channel": {"map": "twn", "granularity": "channel", "rule": "tanh"},
    "ternary": {"map": "ternary"},
    "sign": {"map": "sign", "scale": "channel_mean"},
    "apot": {"map": "apot", "bits": 4},
    "power_of_two": {"map": "power_of_two", "bits": 4},
    "libra, remade": {"map": "libra"},
    "dorefa of a rule, remade": {"map": "dorefa", "bits": 3, "rule": "tanh"},
}
INPUTS: dict[str, dict[str, Any] | None] = {
    "lsq": {"map": "lsq", "bits": 4},
    "lsq_plus": {"map": "lsq_plus", "bits": 4},
    "token": {"map": "token"},
    "token of 4 bits": {"map": "token", "bits": 4},
    "dorefa": {"map": "dorefa", "bits": 4},
    "pact": {"map": "pact", "bits": 4, "alpha": 1.5},
    "pact of 8 bits": {"map": "pact", "bits": 8, "alpha": 1.5},
    "uniform": {"map": "uniform", "bits": 4},
    "apot": {"map": "apot", "bits": 4, "signed": False},
    "n2uq": {"map": "n2uq", "bits": 3},
    "lsq of a rule, remade": {"map": "lsq", "bits": 3, "rule": "tanh"},
    "none": None,
}


PAIRS = sorted(
    {
        (of_weights, sorted(INPUTS)[(step * i) % len(INPUTS)])
        for step in (1, 5)
        for i, of_weights in enumerate(WEIGHTS)
    }
    | {("bitnet", of_inputs) for of_inputs in INPUTS}
)


@pytest.fixture(autouse=True)
def _small_layers_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operands, "_LEAST_REMADE", 0)


def derivatives(layer: nn.Module, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    leaf = x.detach().clone().requires_grad_()
    y = layer(leaf)
    torch.manual_seed(5)
    upstream = torch.randn(y.shape).to(y.dtype)
    return y, list(torch.autograd.grad(y, [leaf, *layer.parameters()], upstream))


def assert_equal(layer: nn.Module, x: Tensor, outputs: float = 2e-5) -> None:
    """Outputs within a product's rounding, gradients within the rounding of a sum."""
    other = watched(layer, Quantizer)
    assert layer.training == other.training
    (y, grads), (expected, expected_grads) = derivatives(layer, x), derivatives(other, x)
    assert y.dtype == expected.dtype
    torch.testing.assert_close(y, expected, rtol=outputs, atol=outputs)
    for ours, theirs in zip(grads, expected_grads, strict=True):
        assert ours.dtype == theirs.dtype
        largest = float(theirs.abs().max())  # elements are sums of others, as large as these
        torch.testing.assert_close(ours, theirs, rtol=3e-6, atol=3e-6 * max(largest, 1))


@pytest.mark.parametrize("integers", [False, True])
@pytest.mark.parametrize(("of_weights", "of_inputs"), PAIRS)
def test_linear_layers(
    of_weights: str, of_inputs: str, integers: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(integer_forward, "counting_pays", lambda *_: integers)
    torch.manual_seed(0)
    layer = QuantLinear(
        45, 21, weight_quantizer=WEIGHTS[of_weights], input_quantizer=INPUTS[of_inputs]
    )
    x = torch.randn(3, 17, 45)
    layer(x)  # learned steps take their first values
    x[0, 0] = 0
    assert layer.lean_product(x) is not None
    assert_equal(layer, x)


@pytest.mark.parametrize(("of_weights", "of_inputs"), PAIRS[::2])
def test_convolutions(of_weights: str, of_inputs: str) -> None:
    torch.manual_seed(0)
    layer = QuantConv2d(
        6,
        10,
        3,
        stride=2,
        padding=1,
        groups=2,
        weight_quantizer=WEIGHTS[of_weights],
        input_quantizer=INPUTS[of_inputs],
    )
    x = torch.randn(2, 6, 9, 8)
    layer(x)
    assert_equal(layer, x)


@pytest.mark.parametrize("of_weights", ["bitnet", "lsq"])
def test_convolutions_of_tokens(of_weights: str) -> None:
    """A sum over pixels has steps of several tokens: it is none of integers times one of them."""
    torch.manual_seed(0)
    layer = QuantConv2d(
        64, 64, 3, padding=1, weight_quantizer=WEIGHTS[of_weights], input_quantizer="token"
    )
    x = torch.randn(16, 64, 8, 8) * torch.rand(16, 64, 1, 1)
    layer(x)
    assert_equal(layer, x)


@pytest.mark.parametrize("bits", [1, 5, 8])
def test_thresholds_anywhere(bits: int) -> None:
    """Segments of any width, one of them below the least, and inputs at and beyond their ends."""
    torch.manual_seed(bits)
    layer = QuantLinear(
        45, 7, weight_quantizer=WEIGHTS["bitnet"], input_quantizer={"map": "n2uq", "bits": bits}
    )
    learned = dict(layer.input_quantizer.named_parameters())
    with torch.no_grad():
        learned["widths"].mul_(torch.rand_like(learned["widths"]) + 0.5)[-1:] = 1e-4
        for name, value in (("start", -0.25), ("scale_in", 1.25), ("scale_out", 0.75)):
            learned[name].fill_(value)
    x = 2 * torch.randn(40, 45)
    x[0, :2] = torch.tensor([-0.25, 2.0]) / 1.25
    assert layer.lean_product(x) is not None
    assert_equal(layer, x)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(sorted(WEIGHTS)),
    st.sampled_from(sorted(INPUTS)),
    st.integers(1, 9),
    st.integers(1, 70),
    st.integers(1, 9),
    st.sampled_from([1e-6, 1e-2, 1.0, 30.0]),
    st.integers(0, 999),
)
def test_any_size_and_scale(
    of_weights: str, of_inputs: str, rows: int, width: int, outputs: int, size: float, seed: int
) -> None:
    torch.manual_seed(seed)
    layer = QuantLinear(
        width, outputs, weight_quantizer=WEIGHTS[of_weights], input_quantizer=INPUTS[of_inputs]
    )
    layer(size * torch.randn(rows, width))
    x = size * torch.randn(rows, width)
    other = watched(layer, Quantizer)
    (y, grads), (expected, expected_grads) = derivatives(layer, x), derivatives(other, x)
    torch.testing.assert_close(y, expected, rtol=2e-5, atol=2e-5 * (1 + size))
    for ours, theirs in zip(grads, expected_grads, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * (1 + size))


def kept_bytes(layer: nn.Module, x: Tensor) -> int:
    """Bytes that wait for the backward pass, less parameters and the input itself."""
    own = {t.untyped_storage().data_ptr() for t in (x, *layer.parameters(), *layer.buffers())}
    storages: dict[int, int] = {}
    alive: list[Tensor] = []

    def keep(t: Tensor) -> Tensor:
        alive.append(t)
        storage = t.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage.nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        layer(x)
    return sum(storages.values())


@pytest.mark.parametrize(
    ("of_inputs", "bits"),
    [("token", 8.25), ("dorefa", 5), ("pact", 6), ("uniform", 5), ("lsq", 0), ("lsq_plus", 0)],
)
def test_keeps_codes_and_masks_only(of_inputs: str, bits: float) -> None:
    layer = QuantLinear(
        128, 64, weight_quantizer=WEIGHTS["bitnet"], input_quantizer=INPUTS[of_inputs]
    )
    x = torch.randn(32, 128, requires_grad=True)
    layer(x)
    assert kept_bytes(layer, x) <= bits * x.numel() / 8 + 64


@pytest.mark.parametrize("where", ["input", "weight"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("of_inputs", [k for k in INPUTS if k != "none"])
def test_what_is_no_number_spreads_as_in_the_plain_composition(
    of_inputs: str, bad: float, where: str
) -> None:
    torch.manual_seed(0)
    layer = QuantLinear(
        40, 5, weight_quantizer=WEIGHTS["bitnet"], input_quantizer=INPUTS[of_inputs]
    )
    x = torch.randn(4, 40)
    layer(x)
    with torch.no_grad():
        (x if where == "input" else layer.weight)[1, 2] = bad
    other = watched(layer, Quantizer)
    (y, grads), (expected, expected_grads) = derivatives(layer, x), derivatives(other, x)
    torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5, equal_nan=True)
    for ours, theirs in zip(grads, expected_grads, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5, equal_nan=True)


def test_two_hundred_steps_of_a_ternary_network() -> None:
    torch.manual_seed(1)
    x, y = torch.randn(32, 24), torch.randint(4, (32,))

    def network() -> nn.Module:
        torch.manual_seed(0)
        bit = {"weight_quantizer": "bitnet", "input_quantizer": "token"}
        return nn.Sequential(
            *(nn.LayerNorm(24), QuantLinear(24, 40, **bit), nn.ReLU()),
            *(nn.LayerNorm(40), QuantLinear(40, 4, **bit)),
        )

    curves = [
        loss_curve(net, torch.optim.Adam(net.parameters(), 0.01), x, y)
        for net in (network(), watched(network(), Quantizer))
    ]
    assert curves[0][-1] < 0.3 * curves[0][0]
    torch.testing.assert_close(curves[0][:20], curves[1][:20], rtol=1e-2, atol=1e-3)


def test_a_changed_weight_between_the_passes_is_an_error() -> None:
    layer = QuantLinear(8, 4, weight_quantizer="bitnet", input_quantizer="token")
    y = layer(torch.randn(2, 8, requires_grad=True))
    with torch.no_grad():
        layer.weight.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


SIGNS = {"weight_quantizer": "sign", "input_quantizer": "sign"}
SCALED = {"weight_quantizer": {"map": "sign", "scale": "channel_mean"}, "input_quantizer": "step"}
FLOATS = {"weight_quantizer": "sign", "input_quantizer": None}
AUTOCAST = [
    *(SIGNS, SCALED, FLOATS),
    *(
        {"weight_quantizer": WEIGHTS[w], "input_quantizer": INPUTS[x]}
        for w, x in [*PAIRS[::5], ("bitnet", "token"), ("lsq per channel", "lsq")]
    ),
]


@pytest.mark.parametrize("integers", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("options", AUTOCAST)
def test_under_autocast(
    options: dict[str, Any], dtype: torch.dtype, integers: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(integer_forward, "counting_pays", lambda *_: integers)
    monkeypatch.setattr(popcount_forward, "counting_pays", lambda *_: integers)
    torch.manual_seed(0)
    layer = QuantLinear(64, 21, **options)
    layer(torch.randn(5, 64))
    x = torch.randn(33, 64).to(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer.lean_product(x) is not None
        leaf = x.clone().requires_grad_()
        found = []
        for net in (layer, watched(layer, Quantizer)):
            y = net(leaf)
            upstream = torch.linspace(-1, 1, y.numel()).view(y.shape).to(y.dtype)
            found.append((y, *torch.autograd.grad(y, [leaf, *net.parameters()], upstream)))
    for ours, theirs in zip(*found, strict=True):
        assert ours.dtype == theirs.dtype
        torch.testing.assert_close(ours, theirs, rtol=0.02, atol=0.02)
    for ours, theirs in zip(found[0][1:3], found[1][1:3], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=2**-7, atol=1e-6)


def test_a_binary_block_under_autocast_keeps_less_than_a_float_one() -> None:
    def block(linear: Any) -> nn.Module:
        return nn.Sequential(nn.LayerNorm(256), linear(256, 512), nn.Hardtanh(), linear(512, 256))

    kept = []
    for linear in (QuantLinear, nn.Linear):
        net, x = block(linear), torch.randn(64, 256, requires_grad=True)
        with torch.autocast("cpu", torch.bfloat16):
            kept.append(kept_bytes(net, x))
    assert kept[0] < 0.8 * kept[1]
