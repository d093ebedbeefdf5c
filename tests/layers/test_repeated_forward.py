"""A forward pass has no effect that a repetition sees: checkpointing, torch.func, no memory yet."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn.utils import prune
from torch.utils.checkpoint import checkpoint

from ste_lightning.convert import quantize_
from ste_lightning.errors import ConfigurationError
from ste_lightning.layers import (
    QuantConv1d,
    QuantizedLayer,
    QuantLinear,
    QuantMultiheadAttention,
    RPReLU,
)

LEARNED = {"map": "lsq", "bits": 4}
RANGES = {"map": "uniform", "bits": 4}


def network(spec: Any, shared: bool = False) -> nn.Sequential:
    torch.manual_seed(0)
    layer = QuantLinear(8, 8, weight_quantizer=spec, input_quantizer=spec)
    other = layer if shared else QuantLinear(8, 8, weight_quantizer=spec, input_quantizer=spec)
    return nn.Sequential(nn.Linear(8, 8), layer, nn.Tanh(), other, nn.Linear(8, 4))


def steps(net: nn.Sequential, accumulate: int, run: Any) -> dict[str, torch.Tensor]:
    """Train three steps; return the gradients of the last and the state."""
    generator = torch.Generator().manual_seed(1)
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    for _ in range(3):
        optimizer.zero_grad()
        for _ in range(accumulate):
            run(torch.randn(16, 8, generator=generator) * 3).square().mean().backward()
        optimizer.step()
    grads = {f"{k} grad": p.grad for k, p in net.named_parameters() if p.grad is not None}
    return {**net.state_dict(), **grads}


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("spec", [LEARNED, {"map": "lsq_plus", "bits": 3}, RANGES], ids=str)
def test_activation_checkpointing_changes_nothing(
    spec: Any, shared: bool, accumulate: int, reentrant: bool
) -> None:
    plain, stored = network(spec, shared), network(spec, shared)

    def again(x: torch.Tensor) -> torch.Tensor:
        x = stored[0](x)
        y: torch.Tensor = checkpoint(stored[1:4], x, use_reentrant=reentrant)
        return stored[4](y)

    one, two = steps(plain, accumulate, plain), steps(stored, accumulate, again)
    assert one.keys() == two.keys()
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, rtol=1e-5, atol=1e-6, msg=key)


@pytest.mark.parametrize("spec", [LEARNED, RANGES], ids=str)
def test_a_pass_that_is_repeated_gives_the_same_and_moves_nothing_more(spec: Any) -> None:
    net, x = network(spec), torch.randn(16, 8)
    first = net(x)
    state = copy.deepcopy(net.state_dict())
    assert torch.equal(net(x), first)
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())


@pytest.mark.parametrize("spec", [LEARNED, RANGES], ids=str)
def test_function_transforms_see_ranges_and_do_not_move_them(spec: Any) -> None:
    net, x = network(spec), torch.randn(16, 8)

    def loss(parameters: Any) -> torch.Tensor:
        return functional_call(net, parameters, (x,)).square().mean()

    if spec is LEARNED:
        with pytest.raises(ConfigurationError, match="run one batch in training mode first"):
            grad(loss)(dict(net.named_parameters()))
        net(x)
    state = copy.deepcopy(net.state_dict())
    gradients = grad(loss)(dict(net.named_parameters()))
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())
    net(x).square().mean().backward()
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-4, atol=1e-6)
    net.eval()
    torch.testing.assert_close(vmap(net)(x), net(x))


@pytest.mark.parametrize("spec", [LEARNED, RANGES, {**LEARNED, "granularity": "channel"}], ids=str)
def test_on_the_meta_device_nothing_is_garbage(spec: Any) -> None:
    inputs = LEARNED if "granularity" in spec else spec
    with torch.device("meta"):
        made = nn.Sequential(
            nn.Linear(8, 8),
            QuantLinear(8, 8, weight_quantizer=spec, input_quantizer=inputs),
            RPReLU(8),
        )
    torch.manual_seed(0)
    real = nn.Sequential(
        nn.Linear(8, 8), QuantLinear(8, 8, weight_quantizer=spec, input_quantizer=inputs), RPReLU(8)
    )
    x = torch.randn(16, 8)
    made.to_empty(device="cpu")
    torch.manual_seed(0)
    for module in made.modules():
        if hasattr(module, "reset_parameters") and not isinstance(module, nn.Sequential):
            module.reset_parameters()
    assert torch.equal(made(x), real(x))  # weights, scales and the first batch's range
    state = real.state_dict()
    for loaded in (copy.deepcopy(made), copy.deepcopy(made).to("meta")):
        loaded.to_empty(device="cpu")
        loaded.load_state_dict(state)
        assert torch.equal(loaded.eval()(x), real.eval()(x))
    assigned = copy.deepcopy(made).to("meta")
    assigned.load_state_dict(state, assign=True)
    assert torch.equal(assigned.eval()(x), real.eval()(x))


@pytest.mark.parametrize("spec", [LEARNED, RANGES], ids=str)
def test_inputs_without_data_pass_in_float_and_say_so(spec: Any) -> None:
    layer = QuantLinear(8, 4, weight_quantizer="sign", input_quantizer=spec).eval()
    x = torch.randn(3, 8)
    with pytest.warns(UserWarning, match="has seen no data: its input passes in float"):
        y = layer(x)
    torch.testing.assert_close(y, x @ layer.quantized_weight().T + layer.bias)
    with pytest.raises(ConfigurationError, match="input quantizer has seen no data"):
        layer.check()
    layer.train()(x)
    layer.eval()(x)
    layer.check()
    averaged = torch.optim.swa_utils.AveragedModel(
        QuantLinear(8, 4, weight_quantizer="sign", input_quantizer=spec)
    )
    averaged.update_parameters(layer)
    assert torch.equal(averaged.eval()(x), layer(x))  # its buffers were copied in place


def test_weights_that_are_not_finite_are_called_so() -> None:
    layer = QuantLinear(8, 4)
    with torch.no_grad():
        layer.weight[0, 0] = float("nan")
    with pytest.raises(ConfigurationError, match="its weights are NaN"):
        layer.check()


def test_float_states_start_the_learned_values_and_go_back() -> None:
    torch.manual_seed(0)
    floats = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 4))
    net = copy.deepcopy(floats)
    spec = {**LEARNED, "granularity": "channel"}
    quantize_(net, [{"match": "*", "weight": spec, "input": LEARNED}])
    net(torch.randn(4, 8))
    other = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 4))
    with pytest.warns(UserWarning, match=r"layer '1' is of a float layer") as said:
        net.load_state_dict(other.state_dict())
    text = " ".join(str(w.message) for w in said)
    assert "weight_quantizer.scale" in text
    assert "input_quantizer.scale" in text
    layer = net[1]
    assert isinstance(layer, QuantizedLayer)
    expected = 2 * other[1].weight.detach().abs().mean(1, keepdim=True) / 7**0.5
    torch.testing.assert_close(layer.weight_quantizer.scale.detach(), expected)
    assert not layer.input_quantizer.initialized
    with pytest.raises(RuntimeError, match=r"Unexpected.*1.weight_quantizer.scale"):
        floats.load_state_dict(net.state_dict())
    missing = floats.load_state_dict(net.state_dict(), strict=False)
    assert all("quantizer" in key for key in missing.unexpected_keys)
    assert torch.equal(floats[1].weight, other[1].weight)
    broken = {k: v for k, v in net.state_dict().items() if k != "1.weight_quantizer.scale"}
    with pytest.raises(RuntimeError, match=r"Missing.*1.weight_quantizer.scale"):
        net.load_state_dict(broken)  # of a quantized layer, and not whole


def test_another_quantization_is_refused_but_its_tensors_can_be_had() -> None:
    one, two = QuantLinear(4, 4, weight_quantizer="sign"), QuantLinear(4, 4)
    two.weight_quantizer = copy.deepcopy(two.weight_quantizer)
    assert two.load_state_dict(one.state_dict())
    three = QuantLinear(4, 4, weight_quantizer={"map": "sign", "rule": "clipped", "width": 2.0})
    with pytest.raises(ConfigurationError, match=r"weight width: 1.0 there, 2.0 here"):
        three.load_state_dict(one.state_dict())
    three.load_state_dict(dict(one.state_dict()))
    assert torch.equal(three.weight, one.weight)


def attend(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    y: torch.Tensor = layer(x, x, x)[0]
    return y


def frozen_layers() -> dict[str, tuple[nn.Module, Any]]:
    grids: dict[str, Any] = {"weight_quantizer": RANGES, "input_quantizer": RANGES}
    pruned = QuantLinear(8, 8, **grids)
    prune.random_unstructured(pruned, "weight", 0.3)
    signs = QuantLinear(8, 8, weight_quantizer="sign", input_quantizer=RANGES)
    attention = QuantMultiheadAttention(8, 2, score_quantizer=RANGES, **grids)
    return {
        "linear": (QuantLinear(8, 8, **grids), nn.Module.__call__),
        "conv": (QuantConv1d(4, 2, 3, **grids), nn.Module.__call__),
        "signs": (signs, nn.Module.__call__),
        "pruned": (pruned, nn.Module.__call__),
        "attention": (attention, attend),
        "compiled": (
            QuantLinear(8, 8, **grids),
            torch.compile(nn.Module.__call__, backend="eager"),
        ),
    }


@pytest.mark.parametrize("kind", frozen_layers())
def test_ranges_of_frozen_layers_are_set_once_and_rest_until_unfrozen(kind: str) -> None:
    torch.manual_seed(0)
    layer, run = frozen_layers()[kind]
    x = torch.randn(3, 4, 8)
    ranges = {k: v for k, v in layer.named_buffers() if k.endswith(("minimum", "maximum"))}

    def moved(scale: float) -> list[bool]:
        before = {key: value.clone() for key, value in ranges.items()}
        # another optimizer step, in which ranges may move again
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)])
        optimizer.step()
        run(layer, scale * x)
        return [not torch.equal(value, before[key]) for key, value in ranges.items()]

    layer.requires_grad_(False)
    assert any(moved(1.0))
    found = {key: value.clone() for key, value in ranges.items()}
    assert not any(moved(2.0))
    layer.eval()
    y = run(layer, 3 * x)
    layer.train()
    assert torch.equal(run(layer, 3 * x), y)
    assert all(torch.equal(value, found[key]) for key, value in ranges.items())
    layer.requires_grad_(True)
    if kind == "compiled" and not hasattr(torch.compiler, "is_exporting"):
        pytest.skip("code compiled by torch 2.6 does not see that a layer is unfrozen")
    assert any(moved(4.0))
