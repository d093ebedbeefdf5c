"""Quantized layers: equal to float layers on quantized operands, and good citizens of torch."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ste_lightning import functional as SF
from ste_lightning.errors import ConfigurationError
from ste_lightning.layers import QuantConv1d, QuantConv2d, QuantConv3d, QuantLinear
from ste_lightning.quantizers import Sign, build

CASES: list[tuple[Any, type[nn.Module], tuple[Any, ...], dict[str, Any], tuple[int, ...]]] = [
    (QuantLinear, nn.Linear, (6, 5), {}, (4, 6)),
    (QuantLinear, nn.Linear, (6, 5), {"bias": False}, (2, 3, 6)),
    (QuantConv1d, nn.Conv1d, (4, 6, 3), {"padding": 1}, (2, 4, 9)),
    (QuantConv2d, nn.Conv2d, (4, 6, 3), {"stride": 2, "groups": 2}, (2, 4, 9, 9)),
    (QuantConv2d, nn.Conv2d, (4, 4, 3), {"padding": "same", "dilation": 2}, (2, 4, 9, 9)),
    (QuantConv2d, nn.Conv2d, (4, 4, 3), {"padding": 1, "padding_mode": "reflect"}, (2, 4, 9, 9)),
    (QuantConv3d, nn.Conv3d, (2, 3, 3), {"padding": 1}, (1, 2, 5, 5, 5)),
]
each_layer = pytest.mark.parametrize(
    ("quant", "plain", "args", "kwargs", "shape"), CASES, ids=lambda v: getattr(v, "__name__", None)
)


@each_layer
def test_equals_the_float_layer_on_quantized_operands(
    quant: Any, plain: Any, args: Any, kwargs: Any, shape: Any
) -> None:
    torch.manual_seed(0)
    layer, reference = quant(*args, **kwargs), plain(*args, **kwargs)
    reference.load_state_dict(layer.state_dict())  # the latent weights' key is the float key
    with torch.no_grad():
        reference.weight.copy_(SF.hard_sign(layer.weight))
    x = torch.randn(shape)
    torch.testing.assert_close(layer(x), reference(SF.hard_sign(x)))


@each_layer
def test_without_quantizers_it_is_the_float_layer(
    quant: Any, plain: Any, args: Any, kwargs: Any, shape: Any
) -> None:
    layer = quant(*args, **kwargs, weight_quantizer=None, input_quantizer=None)
    reference = plain(*args, **kwargs)
    reference.load_state_dict(layer.state_dict())
    x = torch.randn(shape)
    torch.testing.assert_close(layer(x), reference(x), rtol=0, atol=0)


@each_layer
def test_copies_pickles_and_compiles(
    quant: Any, plain: Any, args: Any, kwargs: Any, shape: Any
) -> None:
    layer = quant(*args, **kwargs, weight_quantizer={"map": "sign", "rule": "reste", "o": 2.0})
    x = torch.randn(shape)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), compiled):
        torch.testing.assert_close(other(x), layer(x))


def test_gradients_pass_both_backward_rules() -> None:
    layer = QuantLinear(3, 2, weight_quantizer="sign", input_quantizer={"rule": "approx"})
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.5, -2.0, 0.1], [1.0, -0.3, 3.0]]))
    x = torch.tensor([[0.25, -0.5, 2.0]], requires_grad=True)
    layer(x).sum().backward()
    # d/dw = sign(x) 1[|w| <= 1]; d/dx = (sum of the weights' signs) (2 - 2|x|)
    expected = torch.tensor([[1.0, 0.0, 1.0], [1.0, -1.0, 0.0]])
    torch.testing.assert_close(layer.weight.grad, expected)
    torch.testing.assert_close(x.grad, torch.tensor([[2 * 1.5, -2 * 1.0, 0.0]]))


@pytest.mark.parametrize("pad_value", [1.0, -1.0])
def test_pad_value_pads_the_quantized_input(pad_value: float) -> None:
    layer = QuantConv2d(2, 3, 3, padding=1, pad_value=pad_value, bias=False)
    x = torch.randn(1, 2, 5, 5)
    padded = F.pad(SF.hard_sign(x), (1, 1, 1, 1), value=pad_value)
    torch.testing.assert_close(layer(x), F.conv2d(padded, SF.hard_sign(layer.weight)))
    assert f"pad_value={pad_value:g}" in repr(layer)


def test_pad_value_needs_zeros_mode() -> None:
    with pytest.raises(ConfigurationError, match="pad_value"):
        QuantConv2d(2, 3, 3, padding=1, padding_mode="circular", pad_value=1.0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_dtype_and_channel_scale(dtype: torch.dtype) -> None:
    layer = QuantLinear(
        8, 4, dtype=dtype, weight_quantizer={"map": "sign", "scale": "channel_mean"}
    )
    weight = layer.quantized_weight()
    assert weight.dtype == dtype
    torch.testing.assert_close(weight.abs().amax(1), layer.weight.abs().mean(1))
    assert layer(torch.randn(2, 8, dtype=dtype)).dtype == dtype


def test_scale_gradient_is_detached_on_request() -> None:
    w = torch.tensor([[0.5, -0.25]], requires_grad=True)
    Sign(scale="tensor_mean")(w).sum().backward()
    torch.testing.assert_close(w.grad, torch.full((1, 2), 0.375))
    w.grad = None
    upstream = torch.tensor([[2.0, -1.0]])
    (Sign(scale="tensor_mean", detach_scale=False)(w) * upstream).sum().backward()
    # alpha f'(w) g + sign(w) <g, sign(w)> / N
    torch.testing.assert_close(w.grad, 0.375 * upstream + torch.tensor([[1.5, -1.5]]))


def test_build_accepts_every_form() -> None:
    module = Sign()
    assert build(module) is module
    assert build(None) is None
    assert build("step").rule.name == "relu"  # type: ignore[union-attr]
    built = build({"map": "sign", "rule": "ede", "t": 2.0})
    assert built.rule == SF.surrogate("ede", t=2.0)  # type: ignore[union-attr]
    # No key is added to the state dict: float checkpoints load as they are.
    assert not QuantLinear(2, 2).state_dict().keys() - {"weight", "bias"}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("sgin", "Did you mean 'sign'"),
        ({"map": "sign", "rul": "ede"}, "Did you mean 'rule'"),
        ({"map": "sign", "rule": "reste", "q": 1}, "Known: .*\\bo\\b"),
        ({"map": "sign", "scale": "chanel_mean"}, "Did you mean 'channel_mean'"),
        ({"map": "sign", "rule": "relu"}, "cannot be used on weights"),
        (7, "name, a mapping, a module or None"),
    ],
)
def test_wrong_specifications(spec: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        QuantLinear(2, 2, weight_quantizer=spec)


@pytest.mark.parametrize(
    ("weight", "inputs"),
    [
        ("sign", "sign"),
        ({"map": "sign", "scale": "channel_mean"}, "step"),
        ({"map": "lsq", "bits": 4}, {"map": "lsq", "bits": 4}),
        ("bitnet", "token"),
        ({"map": "uniform", "bits": 4}, {"map": "uniform", "bits": 8}),
        ("twn", None),
    ],
)
@each_layer
def test_results_may_be_changed_in_place(
    quant: Any, plain: Any, args: Any, kwargs: Any, shape: Any, weight: Any, inputs: Any
) -> None:
    torch.manual_seed(0)
    layer = quant(*args, weight_quantizer=weight, input_quantizer=inputs, **kwargs)
    x = torch.randn(shape, requires_grad=True)
    y = layer(x)
    wanted = torch.where(y > 0, 0.5, y * 2).detach()
    y[y > 0] = 0.25
    y.mul_(2)
    assert torch.equal(y, wanted)
    y.sum().backward()  # as torch's own layers allow, whichever product computed it
    assert x.grad is not None
    assert bool(x.grad.isfinite().all())
