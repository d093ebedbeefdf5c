"""Layers of several bits are operators for the compiler, and keep what eager ones keep."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ste_lightning.layers import QuantConv2d, QuantLinear
from ste_lightning.layers.compiled_operands import compiled_operand_product

LSQ: dict[str, Any] = {"map": "lsq", "bits": 4}
UNIFORM: dict[str, Any] = {"map": "uniform", "bits": 4}
OPERATORS = hasattr(torch.compiler, "is_exporting")  # else, in torch 2.6, the plain composition


def network(weights: Any, inputs: Any) -> nn.Module:
    torch.manual_seed(0)
    options = {"weight_quantizer": weights, "input_quantizer": inputs}
    if inputs == "token":
        return nn.Sequential(nn.LayerNorm(64), QuantLinear(64, 128, **options))
    return nn.Sequential(
        QuantConv2d(16, 64, 3, padding=1, weight_quantizer=weights, input_quantizer=None),
        nn.BatchNorm2d(64),
        QuantConv2d(64, 16, 3, stride=2, padding=1, bias=False, **options),
        nn.Flatten(),
        QuantLinear(256, 64, **options),
    )


def gradients(net: nn.Module, x: Tensor) -> list[Tensor]:
    y = net(x)
    return [y.detach(), *torch.autograd.grad(y.square().mean(), [x, *net.parameters()])]


@pytest.mark.parametrize(
    ("weights", "inputs", "kept_bits"),
    [
        (LSQ, LSQ, 0),
        ({**LSQ, "granularity": "channel"}, UNIFORM, 5),
        (UNIFORM, UNIFORM, 5),
        ("bitnet", "token", 8),
    ],
)
def test_equals_eager_without_graph_breaks(weights: Any, inputs: Any, kept_bits: int) -> None:
    net = network(weights, inputs)
    of_tokens = inputs == "token"
    shape = (24, 64) if of_tokens else (8, 16, 8, 8)
    elements = 24 * 64 if of_tokens else 8 * (64 * 64 + 256)
    x = torch.randn(shape, requires_grad=True)
    net(x)  # steps and ranges take their first values
    net.eval()
    expected = gradients(copy.deepcopy(net), x)
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    for ours, other in zip(gradients(compiled, x), expected, strict=True):
        torch.testing.assert_close(ours, other, rtol=1e-4, atol=1e-5 * float(other.abs().max()))
    if not OPERATORS:
        return
    kept: list[Tensor] = []

    def keep(t: Tensor) -> Tensor:
        kept.append(t)
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        compiled(x)
    codes = sum(t.nbytes for t in kept if t.dtype == torch.uint8)
    assert codes == kept_bits * elements // 8
    own = {p.untyped_storage().data_ptr() for p in net.parameters()}
    sizes = {p.numel() for p in net.parameters() if p.numel() > 1000}
    others = [t for t in kept if t.untyped_storage().data_ptr() not in own]
    assert not [t.shape for t in others if t.is_floating_point() and t.numel() in sizes]


def test_what_is_no_number_spreads() -> None:
    net = network("bitnet", "token")
    x = torch.randn(24, 64)
    x[3, 5] = float("nan")
    y = torch.compile(net, fullgraph=True, backend="aot_eager")(x)
    torch.testing.assert_close(y, net(x), equal_nan=True, rtol=1e-5, atol=1e-5)
    assert y[3].isnan().all()
    assert not y[4].isnan().any()


@pytest.mark.parametrize(
    ("weights", "inputs"),
    [(LSQ, LSQ), (LSQ, None), (UNIFORM, UNIFORM), ("bitnet", "token"), (UNIFORM, None)],
)
@pytest.mark.parametrize("convolution", [False, True])
def test_the_operators_alone_equal_the_layer(weights: Any, inputs: Any, convolution: bool) -> None:
    """What the compiler traces, run as it stands."""
    torch.manual_seed(0)
    options = {"weight_quantizer": weights, "input_quantizer": inputs}
    layer: Any = (
        QuantConv2d(32, 32, 3, **options) if convolution else QuantLinear(64, 128, **options)
    )
    x = torch.randn((4, 32, 6, 6) if convolution else (24, 64), requires_grad=True)
    layer(x)
    layer.eval()
    geometry = layer._geometry(x) if convolution else None
    y = compiled_operand_product(
        x, layer.weight, layer.bias, layer.weight_quantizer, layer.input_quantizer, geometry
    )
    if convolution and inputs == "token":
        assert y is None
        return
    assert y is not None
    expected = layer(x)
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-4)
    ours, other = (
        torch.autograd.grad(one.square().mean(), [x, *layer.parameters()]) for one in (y, expected)
    )
    for a, b in zip(ours, other, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5 * float(b.abs().max()))
