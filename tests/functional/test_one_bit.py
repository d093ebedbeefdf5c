"""The product that keeps one bit per activation equals the plain composition of quantizers."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.autograd import forward_ad
from window_rules import windows

from ste_lightning import functional as SF
from ste_lightning.functional.maps import sign_with, step_with
from ste_lightning.functional.products import popcount_forward, small_linear
from ste_lightning.functional.products.binary import one_bit_product
from ste_lightning.functional.products.specification import ConvolutionGeometry, OneBitProduct


@pytest.fixture(autouse=True, params=["whole", "bits"])
def _small_layers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test runs as small layers do, and as others do."""
    if request.param == "bits":
        monkeypatch.setattr(small_linear, "SMALL_INPUT", -1)


RULES = {
    "sign": ["identity", "clipped", "leaky", "approx", "tanh"],
    "step": ["relu", "clipped_relu", "identity", "clipped", "sigmoid"],
}


def gradients(y: torch.Tensor, *leaves: torch.Tensor | None) -> list[torch.Tensor | None]:
    upstream = torch.linspace(-1, 1, y.numel(), dtype=torch.float64).to(y.dtype).view_as(y)
    wanted = [leaf for leaf in leaves if leaf is not None]
    found = iter(torch.autograd.grad(y, wanted, upstream, allow_unused=True))
    return [None if leaf is None else next(found) for leaf in leaves]


def compare(
    shape: tuple[int, ...],
    weight_shape: tuple[int, ...],
    map: str | None,
    rule: str,
    *,
    geometry: ConvolutionGeometry | None = None,
    dtype: torch.dtype = torch.float32,
    bias: bool = False,
    scaled: bool = False,
    transposed: bool = False,
    weight_rule: str = "clipped",
) -> None:
    """Assert equal outputs and gradients of the one-bit product and of the plain composition."""
    x = torch.randn(shape).to(dtype)
    if transposed:
        x = x.transpose(-1, -2).contiguous().transpose(-1, -2)
    x.requires_grad_()
    weight = torch.nn.Parameter(torch.randn(weight_shape).to(dtype))
    b = torch.randn(weight_shape[0]).to(dtype).requires_grad_() if bias else None
    scale = None
    if scaled:
        axes = tuple(range(1, weight.dim()))
        scale = weight.detach().abs().mean(axes, keepdim=True)
    spec = OneBitProduct(
        map, None if map is None else SF.surrogate(rule), SF.surrogate(weight_rule), geometry
    )
    ours = one_bit_product(x, weight, scale, b, spec)

    quantize: Any = {"sign": SF.sign, "step": SF.step, None: lambda v, _: v}[map]
    q = SF.sign(weight, weight_rule)
    q = q if scale is None else q * scale
    quantized = quantize(x, rule)
    if geometry is None:
        plain = F.linear(quantized, q, b)
    else:
        pads = [p for p in reversed(geometry.padding) for _ in range(2)]
        padded = F.pad(quantized, pads, value=geometry.pad_value)
        convolve = (F.conv1d, F.conv2d, F.conv3d)[weight.dim() - 3]
        plain = convolve(padded, q, b, geometry.stride, 0, geometry.dilation, geometry.groups)
    exact = map is not None and not bias and not scaled
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5}.get(dtype, 0.05)
    size = tolerance * max(1, weight[0].numel()) ** 0.5
    torch.testing.assert_close(
        ours, plain, rtol=0 if exact else tolerance, atol=0 if exact else size
    )
    for mine, other in zip(
        gradients(ours, x, weight, b), gradients(plain, x, weight, b), strict=True
    ):
        torch.testing.assert_close(mine, other, rtol=tolerance, atol=size)


dtypes = st.sampled_from([torch.float32, torch.float64, torch.bfloat16])
maps = st.sampled_from(["sign", "step", None])


@settings(
    deadline=None,
    max_examples=20,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    st.data(), st.integers(0, 5), st.integers(1, 70), st.integers(1, 9), maps, dtypes, st.booleans()
)
def test_linear(data: Any, rows: int, k: int, n: int, map: str | None, dtype: Any, b: bool) -> None:
    rule = data.draw(st.sampled_from(RULES[map or "sign"]))
    shape = data.draw(st.sampled_from([(rows, k), (2, rows, k)]))
    weight_rule = data.draw(st.sampled_from(["clipped", "approx", "identity"]))
    compare(
        shape,
        (n, k),
        map,
        rule,
        dtype=dtype,
        bias=b,
        scaled=data.draw(st.booleans()),
        transposed=data.draw(st.booleans()),
        weight_rule=weight_rule,
    )


@settings(
    deadline=None,
    max_examples=20,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.data(), maps, dtypes, st.sampled_from([1, 2, 3]), st.sampled_from([0.0, 1.0, -1.0]))
def test_convolution(data: Any, map: str | None, dtype: Any, dims: int, pad_value: float) -> None:
    def each(low: int, high: int) -> tuple[int, ...]:
        return tuple(data.draw(st.integers(low, high)) for _ in range(dims))

    groups = data.draw(st.integers(1, 2))
    geometry = ConvolutionGeometry(each(1, 2), each(0, 2), each(1, 2), groups, pad_value)
    channels, outputs = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))
    compare(
        (data.draw(st.integers(1, 2)), channels * groups, *each(5, 7)),
        (outputs * groups, channels, *each(1, 3)),
        map,
        data.draw(st.sampled_from(RULES[map or "sign"])),
        geometry=geometry,
        dtype=dtype,
        bias=data.draw(st.booleans()),
        scaled=data.draw(st.booleans()),
    )


@pytest.fixture
def _always_count(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")
    monkeypatch.setattr(popcount_forward, "counting_pays", lambda *_: True)


@pytest.mark.usefixtures("_always_count")
@pytest.mark.parametrize("map", ["sign", "step"])
@pytest.mark.parametrize(("rows", "k", "n"), [(1, 1, 1), (3, 33, 65), (70, 128, 64), (5, 250, 7)])
def test_counted_linear_products(map: str, rows: int, k: int, n: int) -> None:
    compare((rows, k), (n, k), map, "clipped")
    compare((2, rows, k), (n, k), map, "clipped", bias=True, scaled=True)


@pytest.mark.usefixtures("_always_count")
@pytest.mark.parametrize("map", ["sign", "step"])
@pytest.mark.parametrize("pad_value", [0.0, 1.0, -1.0])
@pytest.mark.parametrize("groups", [1, 2])
def test_counted_convolutions(map: str, pad_value: float, groups: int) -> None:
    for stride, padding, dilation, channels in [(1, 1, 1, 40), (2, 0, 1, 5), (1, 2, 2, 32)]:
        geometry = ConvolutionGeometry(
            (stride,) * 2, (padding,) * 2, (dilation,) * 2, groups, pad_value
        )
        size = (2, channels * groups, 9, 8)
        compare(size, (6 * groups, channels, 3, 3), map, "clipped", geometry=geometry)
        compare(
            size, (4, channels, 3, 2), map, "identity", geometry=geometry, bias=True, scaled=True
        )


def test_saves_one_bit_per_element_and_mask() -> None:
    x = torch.randn(64, 1024, requires_grad=True)
    weight = torch.nn.Parameter(torch.randn(8, 1024))
    spec = OneBitProduct("sign", SF.surrogate("clipped"), SF.surrogate("clipped"))
    saved: list[torch.Tensor] = []

    def keep(t: torch.Tensor) -> torch.Tensor:
        saved.append(t)
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        one_bit_product(x, weight, None, None, spec)
    own = weight.untyped_storage().data_ptr()
    sizes = [t.nbytes for t in saved if t.untyped_storage().data_ptr() != own]
    assert sizes == [64 * 1024 // 8] * 2


def test_nothing_is_kept_without_gradients() -> None:
    spec = OneBitProduct("sign", SF.surrogate("clipped"), SF.surrogate("clipped"))
    x, weight = torch.randn(2, 8), torch.nn.Parameter(torch.randn(3, 8))
    with torch.no_grad():
        y = one_bit_product(x, weight, None, None, spec)
    assert not y.requires_grad
    y = one_bit_product(x, weight, None, None, spec)  # weight only
    (grad,) = torch.autograd.grad(y.sum(), weight)
    torch.testing.assert_close(grad, SF.hard_sign(x).sum(0).expand(3, 8) * (weight.abs() <= 1))


@pytest.mark.parametrize("map", ["sign", "step"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rule", windows(), ids=lambda r: f"{r.name}{r.parameters()}")
def test_borrowed_nodes_are_the_rule_to_the_last_bit(
    rule: SF.Surrogate, dtype: Any, map: str
) -> None:
    edges = torch.tensor([0.6, 0.7, 1.0, 0.0, -0.0], dtype=torch.float64).to(dtype)
    up, down = edges.nextafter(edges + 9), edges.nextafter(edges - 9)
    infinite = torch.tensor([float("inf"), float("-inf")], dtype=dtype)
    x = torch.cat([edges, up, down, -edges, -up, -down, infinite, torch.randn(70).to(dtype)])
    hard = SF.hard_sign if map == "sign" else SF.hard_step
    # torch's kernels treat the last elements of a tensor, and views, in other ways than the first
    nans = [x.clone().index_fill_(0, torch.tensor([at]), float("nan")) for at in (3, len(x) - 1)]
    for values in (x, x.expand(3, -1).t().clone().t()[1], *nans):
        leaf = values.detach().requires_grad_()
        grad = torch.randn(x.shape).to(dtype)
        y = (sign_with if map == "sign" else step_with)(leaf, rule)
        assert torch.equal(y, hard(values))
        (found,) = torch.autograd.grad(y, leaf, grad)
        assert torch.equal(found, grad * rule.derivative(values))


@pytest.mark.parametrize("size", [1, 37, 64 * 64])
def test_weights_inside_and_outside_of_the_window(
    size: int,
) -> None:
    rule = SF.surrogate("clipped")
    for largest in (0.5, 1.0, 1.0000001, 3.0, -1.0, -1.0000001):
        weight = torch.nn.Parameter(torch.full((1, size), -0.0))
        weight.data[0, size // 2] = largest
        x, grad = torch.randn(2, size), torch.randn(2, 1)
        for scale in (None, torch.tensor([[0.5]])):
            y = one_bit_product(x, weight, scale, None, OneBitProduct(None, None, rule))
            found = torch.autograd.grad(y, weight, grad)[0]
            expected = grad.t() @ x * (1 if scale is None else scale)
            assert torch.equal(found, expected * (weight.abs() <= 1))


def test_a_second_derivative_is_refused() -> None:
    spec = OneBitProduct("sign", SF.surrogate("clipped"), SF.surrogate("clipped"))
    x = torch.randn(600, 80, requires_grad=True)
    y = one_bit_product(x, torch.nn.Parameter(torch.randn(4, 80)), None, None, spec)
    (grad,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


@pytest.mark.parametrize("learns", [True, False])
def test_small_layers_without_gradients_and_forward_mode(learns: bool) -> None:
    rule = SF.surrogate("clipped")
    x, weight = torch.randn(5, 9), torch.nn.Parameter(torch.randn(3, 9))
    x[0, 0], x[0, 1] = math.nan, -0.0
    expected = SF.hard_sign(x) @ SF.hard_sign(weight.detach()).t()
    with torch.set_grad_enabled(learns):
        y = one_bit_product(x, weight, None, None, OneBitProduct("sign", rule, rule))
    assert torch.equal(y, expected)
    assert y.requires_grad is learns
    with forward_ad.dual_level(), pytest.raises((NotImplementedError, RuntimeError)):
        SF.sign(forward_ad.make_dual(x, torch.ones_like(x)))  # never a tangent of zeros
