"""A linear layer remembers what its quantizers said, and notices every change of them."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ste_lightning import functional as SF
from ste_lightning.layers import QuantLinear
from ste_lightning.quantizers import Sign, Step


def plain(layer: QuantLinear, x: torch.Tensor) -> torch.Tensor:
    return F.linear(layer.quantized_input(x), layer.quantized_weight(), layer.bias)


def assert_equal(layer: QuantLinear) -> None:
    """Assert that the layer computes and differentiates as its quantizers say now."""
    dtype = layer.weight.dtype
    found = []
    for function in (layer, lambda x: plain(layer, x)):
        x = torch.linspace(-2, 2, 24, dtype=dtype).view(3, 8).requires_grad_()
        y = function(x)
        grads = torch.autograd.grad(
            y, [x, *layer.parameters()], torch.linspace(-1, 1, y.numel(), dtype=dtype).view_as(y)
        )
        found.append((y.detach(), *grads))
    for ours, expected in zip(*found, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-6)


def replaced(layer: QuantLinear) -> None:
    layer.weight_quantizer = Sign("tanh")


def scaled_weights(layer: QuantLinear) -> None:
    assert isinstance(layer.weight_quantizer, Sign)
    layer.weight_quantizer.scale = "channel_mean"


def scaled_input(layer: QuantLinear) -> None:
    assert isinstance(layer.input_quantizer, Sign)
    layer.input_quantizer.scale = "tensor_mean"


def float_input(layer: QuantLinear) -> None:
    layer.input_quantizer = None


def stepped(layer: QuantLinear) -> None:
    layer.input_quantizer = Step()


def other_rule(layer: QuantLinear) -> None:
    assert isinstance(layer.weight_quantizer, Sign)
    layer.weight_quantizer._rule = SF.surrogate("clipped", width=0.01)


def other_input_rule(layer: QuantLinear) -> None:
    assert isinstance(layer.input_quantizer, Sign)
    layer.input_quantizer._rule = SF.surrogate("clipped", width=0.5)


def scheduled(layer: QuantLinear) -> None:
    assert isinstance(layer.input_quantizer, Sign)
    layer.input_quantizer.schedule("width", "linear", start=0.5, end=1.0)


def weakened(layer: QuantLinear) -> None:
    assert isinstance(layer.weight_quantizer, Sign)
    layer.weight_quantizer.schedule("strength", "linear", start=0.25, end=1.0)


def switched_off(layer: QuantLinear) -> None:
    layer.input_quantization = False


def in_double(layer: QuantLinear) -> None:
    layer.double()


class Doubled(Sign):
    def quantize(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * super().quantize(x)


def other_class(layer: QuantLinear) -> None:
    assert layer.input_quantizer is not None
    layer.input_quantizer.__class__ = Doubled


def hooked(layer: QuantLinear) -> None:
    assert layer.weight_quantizer is not None
    layer.weight_quantizer.register_forward_hook(lambda module, args, y: 3 * y)


CHANGES = [replaced, scaled_weights, scaled_input, float_input, stepped, other_rule]
CHANGES += [other_input_rule, scheduled, weakened, switched_off, in_double, other_class, hooked]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_changes_between_calls_are_noticed(change: Callable[[QuantLinear], None]) -> None:
    torch.manual_seed(0)
    layer = QuantLinear(8, 4)
    assert_equal(layer)
    assert_equal(layer)
    change(layer)
    assert_equal(layer)
    assert_equal(layer)


def test_hooks_on_all_modules_are_noticed() -> None:
    layer, seen = QuantLinear(8, 4), []
    assert_equal(layer)
    handle = nn.modules.module.register_module_forward_hook(
        lambda module, args, y: seen.append(type(module))
    )
    try:
        layer(torch.randn(3, 8))
    finally:
        handle.remove()
    assert seen.count(Sign) == 2


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_are_on_their_own(copied: Callable[[QuantLinear], QuantLinear]) -> None:
    layer = QuantLinear(8, 4)
    assert_equal(layer)
    other = copied(layer)
    assert_equal(other)
    assert isinstance(other.input_quantizer, Sign)
    other.input_quantizer.scale = "tensor_mean"
    assert_equal(other)
    assert_equal(layer)


def test_a_float_layer_keeps_nothing() -> None:
    layer = QuantLinear(8, 4)
    keys = set(nn.Linear(8, 4).__dict__)
    layer(torch.randn(3, 8))
    assert set(layer.to_float().__dict__) == keys
