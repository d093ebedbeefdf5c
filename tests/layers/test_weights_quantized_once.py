"""In evaluation weights are quantized once, and every change of them is seen."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ste_lightning.layers import QuantConv2d, QuantEmbedding, QuantLinear
from ste_lightning.quantizers import quantizer_names
from ste_lightning.quantizers.registry import quantizer_class


def maps_for_weights() -> list[str]:
    names = []
    for name in quantizer_names():
        kinds = getattr(quantizer_class(name), "operands", ("weights",))
        if "weights" in kinds and name not in ("progressive", "step"):
            names.append(name)
    return names


def counted(layer: nn.Module) -> list[None]:
    """Count the calls of the layer's weight quantizer's arithmetic, unseen by the layer."""
    calls: list[None] = []
    kind = type(layer.weight_quantizer)
    quantize = kind.quantize

    class Counting(kind):  # type: ignore[misc, valid-type]
        __module__ = kind.__module__

        def quantize(self, x: Tensor) -> Tensor:
            calls.append(None)
            result: Tensor = quantize(self, x)
            return result

    layer.weight_quantizer.__class__ = Counting
    return calls


def fresh(layer: QuantLinear, x: Tensor) -> Tensor:
    return F.linear(layer.quantized_input(x), layer.quantized_weight(), layer.bias)


@pytest.mark.parametrize("name", maps_for_weights())
@torch.no_grad()
def test_repeated_calls_quantize_once_and_equal_a_fresh_quantization(name: str) -> None:
    layer = QuantLinear(12, 5, weight_quantizer=name, input_quantizer=None).eval()
    calls, x = counted(layer), torch.randn(3, 12)
    found = [layer(x) for _ in range(4)]
    assert len(calls) == 1
    for y in found:
        assert torch.equal(y, fresh(layer, x))


def _in_place(layer: QuantLinear) -> None:
    layer.weight.neg_()


def _data(layer: QuantLinear) -> None:
    layer.weight.data.neg_()


def _one_element(layer: QuantLinear) -> None:
    layer.weight.data[-1, -1] = 7.0


def _numpy(layer: QuantLinear) -> None:
    layer.weight.detach().numpy()[...] *= -1


def _two_swapped(layer: QuantLinear) -> None:
    layer.weight.data[[0, 1]] = layer.weight.data[[1, 0]]


def _new_parameter(layer: QuantLinear) -> None:
    layer.weight = nn.Parameter(-layer.weight)


def _new_data(layer: QuantLinear) -> None:
    layer.weight.data = -layer.weight


def _loaded(layer: QuantLinear) -> None:
    state = layer.state_dict()
    state["weight"] = -state["weight"]
    layer.load_state_dict(state)


def _optimizer(layer: QuantLinear) -> None:
    layer.weight.grad = 9 * layer.weight.sign()
    torch.optim.SGD([layer.weight], lr=1.0).step()


def _step(layer: QuantLinear) -> None:
    layer.weight_quantizer.scale.data.mul_(2)


def _levels(layer: QuantLinear) -> None:
    layer.weight_quantizer.low, layer.weight_quantizer.high = -1, 1


def _other_quantizer(layer: QuantLinear) -> None:
    layer.weight_quantizer = nn.Identity()


def _hook(layer: QuantLinear) -> None:
    layer.weight_quantizer.register_forward_hook(lambda module, args, y: -y)


@pytest.mark.parametrize(
    "change",
    [
        *(_in_place, _data, _one_element, _numpy, _two_swapped, _new_parameter, _new_data, _loaded),
        *(_optimizer, _step, _levels, _other_quantizer, _hook),
    ],
)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_every_change_is_seen(change: Callable[[QuantLinear], None], mode: Any) -> None:
    layer = QuantLinear(
        67, 5, weight_quantizer={"map": "lsq", "bits": 4}, input_quantizer=None
    ).eval()
    x = torch.randn(3, 67)
    with mode():
        before = layer(x)
        assert torch.equal(layer(x), before)
    with torch.no_grad():
        change(layer)
    with mode():
        after = layer(x)
        assert not torch.equal(after, before)
        assert torch.equal(after, F.linear(x, layer.quantized_weight(), layer.bias))


def test_weights_made_in_inference_mode_are_watched_too() -> None:
    with torch.inference_mode():
        layer = QuantLinear(16, 4, weight_quantizer="bitnet", input_quantizer=None).eval()
        x = torch.randn(2, 16)
        before = layer(x)
        layer.weight.neg_()
        torch.testing.assert_close(layer(x) - layer.bias, layer.bias - before)


def test_training_quantizes_at_every_call_and_a_gradient_reaches_the_weights() -> None:
    layer = QuantLinear(16, 4, weight_quantizer="bitnet", input_quantizer=None).eval()
    x = torch.randn(2, 16)
    with torch.no_grad():
        layer(x)
    layer(x).sum().backward()  # evaluation mode, but differentiated
    assert layer.weight.grad is not None
    calls = counted(layer.train())
    with torch.no_grad():
        layer(x)
        layer(x)
    assert len(calls) == 2


@torch.no_grad()
def test_the_result_belongs_to_the_caller() -> None:
    layer = QuantEmbedding(6, 4, weight_quantizer="bitnet", max_norm=0.1).eval()
    index = torch.arange(6)
    first = layer(index)
    assert torch.equal(layer(index), first)
    plain = QuantLinear(8, 8, weight_quantizer="bitnet", input_quantizer=None).eval()
    plain(torch.ones(1, 8))
    plain.quantized_weight().zero_()
    assert plain(torch.ones(1, 8)).abs().sum() > 0


@torch.no_grad()
def test_copies_and_pickles_do_not_share_what_was_made() -> None:
    layer = QuantConv2d(3, 4, 3, weight_quantizer="twn", input_quantizer=None).eval()
    x = torch.randn(1, 3, 6, 6)
    y = layer(x)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        other.weight.neg_()
        torch.testing.assert_close(
            other(x) - layer.bias.view(-1, 1, 1), -(y - layer.bias.view(-1, 1, 1))
        )
    assert torch.equal(layer(x), y)
    assert not any("once" in key for key in layer.to_float().__dict__)
