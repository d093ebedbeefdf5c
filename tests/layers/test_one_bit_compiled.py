"""Under ``torch.compile`` layers keep one bit per activation too, and agree with eager ones."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

from ste_lightning.functional.estimator.surrogate import surrogate
from ste_lightning.functional.products.binary import one_bit_product
from ste_lightning.functional.products.operators import compiled_one_bit_product, fits_an_operator
from ste_lightning.functional.products.specification import ConvolutionGeometry, OneBitProduct
from ste_lightning.layers import QuantConv2d, QuantLinear

pytest.importorskip("numba")
OPERATORS = hasattr(torch.compiler, "is_exporting")  # else, in torch 2.6, the plain composition


def network() -> nn.Module:
    torch.manual_seed(0)
    scaled = {"map": "sign", "rule": "approx", "scale": "channel_mean"}
    return nn.Sequential(
        QuantConv2d(16, 64, 3, padding=1, bias=False, input_quantizer="sign"),
        nn.BatchNorm2d(64),
        QuantConv2d(
            64, 16, 3, stride=2, padding=1, pad_value=1.0, bias=False, weight_quantizer=scaled
        ),
        nn.BatchNorm2d(16),
        nn.Flatten(),
        QuantLinear(256, 64, input_quantizer="step"),
    )


def gradients(net: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    y = net(x)
    return [y.detach(), *torch.autograd.grad(y.square().mean(), [x, *net.parameters()])]


def test_equals_eager_without_graph_breaks_and_keeps_bits() -> None:
    net = network()
    x = torch.randn(8, 16, 8, 8, requires_grad=True)
    expected = gradients(copy.deepcopy(net), x)
    torch._dynamo.reset()  # networks of other tests count towards its limit of compilations
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    for ours, other in zip(gradients(compiled, x), expected, strict=True):
        torch.testing.assert_close(ours, other, rtol=1e-5, atol=1e-5 * float(other.abs().max()))
    if not OPERATORS:
        return
    kept: list[torch.Tensor] = []

    def keep(t: torch.Tensor) -> torch.Tensor:
        kept.append(t)
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        compiled(x)
    inputs = 8 * (16 * 64 + 64 * 64 + 256)
    assert sum(t.nbytes for t in kept if t.dtype == torch.uint8) == 2 * inputs // 8


@pytest.mark.parametrize("rule", ["clipped", "identity", "leaky"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_operators_pass_the_checks_of_torch(rule: str, dtype: torch.dtype) -> None:
    x = torch.randn(4, 40, requires_grad=True)
    weight = torch.randn(6, 40, requires_grad=True)
    parameters = {"clipped": [1.0], "identity": [], "leaky": [1.0, 0.1]}[rule]
    torch.library.opcheck(
        torch.ops.ste_lightning.one_bit_product.default,
        (x, weight, "sign", rule, parameters, "clipped", [1.0], [], [], [], 1, 0.0, dtype),
        test_utils=("test_schema", "test_faketensor"),
    )


def test_exact_sums_wait_for_batch_norm_in_half_their_bits() -> None:
    torch.manual_seed(0)
    conv = QuantConv2d(64, 64, 3, padding=1, bias=False)
    net = nn.Sequential(conv, nn.BatchNorm2d(64))
    x = torch.randn(8, 64, 8, 8, requires_grad=True)
    grad = torch.randn(8, 64, 8, 8)
    torch._dynamo.reset()  # other tests' networks would make the sizes of this one symbols
    compiled = torch.compile(net, fullgraph=True)
    found = torch.autograd.grad(compiled(x), [x, conv.weight], grad)
    expected = torch.autograd.grad(net(x), [x, conv.weight], grad)
    for ours, other in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, other, rtol=1e-5, atol=1e-5 * float(other.abs().max()))
    if not OPERATORS:
        return
    kept: list[torch.Tensor] = []

    def keep(t: torch.Tensor) -> torch.Tensor:
        kept.append(t)
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        compiled(x)
    images = [t for t in kept if t.shape == (8, 64, 8, 8)]
    assert [t.dtype for t in images] == [torch.float16]


def test_an_exported_program_has_standard_operators_only() -> None:
    program = torch.export.export(QuantLinear(256, 64), (torch.randn(4, 256),))
    assert "ste_lightning" not in str(program.graph)


def test_rules_that_remember_their_input_compile_to_the_plain_composition() -> None:
    layer = QuantLinear(256, 64, input_quantizer={"map": "sign", "rule": "approx"})
    x = torch.randn(4, 256, requires_grad=True)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(gradients(compiled, x), gradients(layer, x))


@pytest.mark.parametrize("convolution", [False, True])
@pytest.mark.parametrize("scaled", [False, True])
def test_the_operators_without_a_compiler_equal_the_product(
    convolution: bool, scaled: bool
) -> None:
    torch.manual_seed(0)
    geometry = ConvolutionGeometry((2, 1), (1, 0), (1, 1), 1, 1.0) if convolution else None
    spec = OneBitProduct("sign", surrogate("clipped"), surrogate("clipped"), geometry)
    size, shape = ((3, 40, 9, 8), (24, 40, 3, 3)) if convolution else ((5, 400), (24, 400))
    scale = torch.rand(24, *[1] * (len(shape) - 1)) + 0.5 if scaled else None
    given = [torch.randn(size), torch.randn(shape), torch.randn(24)]

    def differentiated(product: Callable[..., torch.Tensor]) -> list[torch.Tensor]:
        x, weight, bias = leaves = [tensor.clone().requires_grad_() for tensor in given]
        y = product(x, weight, scale, bias, spec)
        return [y.detach(), *torch.autograd.grad(y.square().mean(), leaves)]

    assert fits_an_operator(given[0], given[1], spec)
    ours, expected = differentiated(compiled_one_bit_product), differentiated(one_bit_product)
    for found, other in zip(ours, expected, strict=True):
        torch.testing.assert_close(found, other, rtol=1e-5, atol=1e-5 * float(other.abs().max()))
