"""quantize_ in place by rules, dequantize_ back to the bit."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from ste_lightning.convert import dequantize_, quantize_
from ste_lightning.errors import ConfigurationError
from ste_lightning.layers import QuantConv2d, QuantizedLayer, QuantLinear
from ste_lightning.quantizers import Sign

BINARY = {"match": "*", "weight": "sign", "input": "sign"}


def convnet() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.Conv2d(4, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.Flatten(),
        nn.Linear(6 * 16, 8),
        nn.BatchNorm1d(8),
        nn.Linear(8, 3),
    )


IMAGES = torch.randn(5, 1, 4, 4, generator=torch.Generator().manual_seed(1))


def test_a_wildcard_leaves_the_first_and_the_last_layer_float() -> None:
    model = convnet()
    report = quantize_(model, BINARY)
    assert report.quantized == ["2", "5"]
    assert type(model[0]) is nn.Conv2d
    assert type(model[7]) is nn.Linear
    assert "the last layer: only its exact name reaches it" in str(report)


def test_exact_names_reach_the_first_and_the_last_layer() -> None:
    model = convnet()
    rules = [BINARY, {"match": "0", "weight": "sign"}, {"match": "7", "weight": "sign"}]
    assert quantize_(model, rules).quantized == ["0", "2", "5", "7"]
    assert isinstance(model[0], QuantConv2d)
    assert model[0].input_quantizer is None


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        ("re:[0-4]", ["2"]),
        (nn.Linear, ["5"]),
        ("type:Linear", ["5"]),
        ("type:torch.nn.Conv2d", ["2"]),
        ("[25]", ["2", "5"]),
        ("5", ["5"]),
    ],
)
def test_rules_match_globs_patterns_types_and_names(match: Any, expected: list[str]) -> None:
    assert quantize_(convnet(), [{"match": match, "weight": "sign"}]).quantized == expected


def test_the_last_matching_rule_wins_and_null_leaves_a_layer_float() -> None:
    model = convnet()
    rules = [
        BINARY,
        {"match": "2", "weight": {"map": "sign", "scale": "channel_mean"}, "input": None},
        {"match": "type:Linear", "weight": None, "input": None},
    ]
    report = quantize_(model, rules)
    assert report.quantized == ["2"]
    assert model[2].weight_quantizer.scale == "channel_mean"
    assert "rule 'type:Linear' leaves it float" in str(report)


def test_layers_keep_their_identity_parameters_and_outputs_come_back_to_the_bit() -> None:
    model = convnet().double().eval()
    model[5].train()  # a flag of its own
    model[5].register_forward_hook(lambda m, a, y: y + 1)
    before, layers, keys = model(IMAGES.double()), list(model), list(model.state_dict())
    parameters = dict(model.named_parameters())
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    quantize_(model, BINARY)
    assert list(model) == layers
    assert list(model.state_dict()) == keys
    assert model[5].training
    assert not model[2].training
    assert not torch.equal(model(IMAGES.double()), before)
    assert all(dict(model.named_parameters())[k] is p for k, p in parameters.items())
    assert optimizer.param_groups[0]["params"][0] is model[0].weight
    assert dequantize_(model) == ["2", "5"]
    assert [type(layer) for layer in model] == [type(layer) for layer in convnet()]
    assert all(dict(model.named_parameters())[k] is p for k, p in parameters.items())
    torch.testing.assert_close(model(IMAGES.double()), before, rtol=0, atol=0)
    assert not any(hasattr(layer, "weight_quantizer") for layer in model)


def test_a_second_call_changes_nothing_and_another_policy_is_refused() -> None:
    model = convnet()
    quantize_(model, BINARY)
    quantizer = model[2].weight_quantizer
    assert "quantized already" in str(quantize_(model, BINARY))
    for other, difference in (
        ({**BINARY, "weight": {"map": "sign", "rule": "approx"}}, "rule: clipped in the model"),
        ({**BINARY, "pad_value": 1.0}, "pad_value: 0.0 in the model, 1.0 in the policy"),
        ({**BINARY, "relu": "identity"}, "relu: float in the model, identity in the policy"),
        ({**BINARY, "match": "type:Conv2d"}, "'5': weight: sign in the model, float in the policy"),
    ):
        with pytest.raises(ConfigurationError, match=difference):
            quantize_(model, [other])
    assert model[2].weight_quantizer is quantizer
    model[2].weight_quantizer.scale = "tensor_mean"  # what the layer is, not what it was called
    with pytest.raises(ConfigurationError, match="scale: tensor_mean in the model, none"):
        quantize_(model, BINARY)


def test_layers_that_the_model_made_itself_are_no_contradiction() -> None:
    model = nn.Sequential(nn.Linear(4, 4), QuantLinear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    report = quantize_(model, {"weight": "ternary"})
    assert report.quantized == ["1", "2"]
    assert "made by the model itself" in str(report)
    with pytest.raises(ConfigurationError, match="layer '1': weight map: sign in the model"):
        quantize_(model, [{"weight": "ternary"}, {"match": "1", "weight": "ternary"}])


def test_tied_weights_stay_tied() -> None:
    model = nn.Sequential(*[nn.Linear(4, 4, bias=False) for _ in range(4)])
    model[2].weight = model[1].weight
    quantize_(model, BINARY)
    assert model[2].weight is model[1].weight
    dequantize_(model)
    assert model[2].weight is model[1].weight


def test_a_layer_registered_twice_is_one_layer() -> None:
    shared = nn.Linear(4, 4)
    model = nn.Sequential(nn.Linear(4, 4), shared, nn.Tanh(), shared, nn.Linear(4, 4))
    assert quantize_(model, BINARY).quantized == ["1"]
    assert model[1] is model[3]
    assert isinstance(model[3], QuantLinear)


def test_parametrized_layers_keep_their_parametrization() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    parametrizations.weight_norm(model[1])
    x = torch.randn(3, 4)
    before, keys, kind = model(x), list(model.state_dict()), type(model[1])
    quantize_(model, BINARY)
    assert isinstance(model[1], QuantLinear)
    assert set(model[1].quantized_weight().unique().tolist()) == {-1.0, 1.0}
    model(x).sum().backward()
    assert model[1].parametrizations.weight.original1.grad is not None
    assert list(model.state_dict()) == keys
    copy.deepcopy(model)(x)
    dequantize_(model)
    assert type(model[1]) is kind
    torch.testing.assert_close(model(x), before, rtol=0, atol=0)


def test_a_parametrization_removed_meanwhile_is_no_obstacle() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    parametrizations.weight_norm(model[1])
    quantize_(model, BINARY)
    nn.utils.parametrize.remove_parametrizations(model[1], "weight")
    assert isinstance(model[1], QuantLinear)
    dequantize_(model)
    assert type(model[1]) is nn.Linear


def test_pruned_layers_stay_pruned() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    prune.l1_unstructured(model[1], "weight", amount=0.5)
    x = torch.randn(3, 4)
    before = model(x)
    with pytest.warns(UserWarning, match=r"50% of the weights of layer '1' are zero"):
        report = quantize_(model, BINARY)
    assert "(pruned?)" in str(report)
    model(x).sum().backward()
    assert model[1].weight_orig.grad is not None
    dequantize_(model)
    torch.testing.assert_close(model(x), before, rtol=0, atol=0)
    quantize_(model, {"weight": "ternary"})  # which keeps zeros


def test_copies_and_pickles_convert_back() -> None:
    model = convnet()
    model.insert(6, nn.ReLU())
    before = model.eval()(IMAGES)
    quantize_(model, {**BINARY, "match": "*"})
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        torch.testing.assert_close(other(IMAGES), model(IMAGES), rtol=0, atol=0)
        dequantize_(other)
        torch.testing.assert_close(other(IMAGES), before, rtol=0, atol=0)


def test_module_specifications_are_copied_per_layer() -> None:
    model = convnet()
    mine = Sign(rule="approx")
    quantize_(model, [{"match": "*", "weight": mine, "input": mine}])
    assert model[2].weight_quantizer is not model[5].weight_quantizer
    assert model[2].weight_quantizer is not model[2].input_quantizer


class _Special(nn.Linear):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(input) * 2


def test_subclasses_with_a_forward_of_their_own_stay_as_they_are() -> None:
    model = nn.Sequential(nn.Linear(4, 4), _Special(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    assert quantize_(model, BINARY).quantized == ["2"]
    assert type(model[1]) is _Special


def test_attention_and_embedding_are_layers() -> None:
    torch.manual_seed(0)
    model = nn.ModuleDict(
        {
            "table": nn.Embedding(5, 8),
            "attention": nn.MultiheadAttention(8, 2, batch_first=True),
            "narrow": nn.MultiheadAttention(8, 2, kdim=4),
            "head": nn.Linear(8, 2),
        }
    )
    report = quantize_(model, [BINARY, {"match": "table", "weight": "sign", "input": "sign"}])
    assert report.quantized == ["table", "attention"]
    assert "kdim" in str(report)  # why the third stays float
    assert type(model["narrow"]) is nn.MultiheadAttention
    dequantize_(model)
    assert not any(isinstance(m, QuantizedLayer) for m in model.modules())


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ([], "give a list of rules"),
        ("sign", "give a list of rules"),
        ([{"match": "*", "wieght": "sign"}], "Did you mean 'weight'"),
        ([{"match": "*", "weight": "sgin"}], "Did you mean 'sign'"),
        ([{"match": "re:(", "weight": "sign"}], "not a regular expression"),
        ([{"match": "*", "weight": "sign", "relu": "hardtan"}], "Did you mean 'hardtanh'"),
        ([{"match": "conv1", "weight": "sign"}], "unknown layer 'conv1'"),
        ([{"match": "0*", "weight": "sign"}], "quantizes no layer.*exact name"),
        ([{"match": "2", "weight": "sign", "pad_value": "x"}], "pad_value=.x. cannot be used"),
        ([{"match": "2", "weight": "sign", "pad_value": math.nan}], "pad_value=nan cannot be used"),
        ([{"match": 3, "weight": "sign"}], "match=3 cannot be used"),
        ([5], "each rule is a mapping"),
    ],
)
def test_wrong_policies_leave_the_model_alone(policy: Any, message: str) -> None:
    model = convnet()
    with pytest.raises(ConfigurationError, match=message):
        quantize_(model, policy)
    assert not any(isinstance(m, QuantizedLayer) for m in model.modules())


def test_an_error_in_the_middle_undoes_the_rest() -> None:
    model = convnet()
    model[5].__class__ = nn.Linear
    model.append(nn.Conv2d(3, 3, 1, padding_mode="reflect"))
    model.append(nn.Linear(3, 3))
    rules = [BINARY, {"match": "7", "weight": "sign", "input": {"map": "sign", "scale": "none"}}]
    bad = [*rules, {"match": "8", "weight": "sign", "relu": "rprelu", "pad_value": 1.0}]
    quantize_(model, bad)  # pad_value is ignored where the padding mode has values of its own
    dequantize_(model)
    model.insert(7, _FunctionalReLU())
    with pytest.raises(ConfigurationError, match="ReLU called as a function"):
        quantize_(model, [BINARY, {"match": "8", "weight": "sign", "input": "sign"}])
    assert not any(isinstance(m, QuantizedLayer) for m in model.modules())


class _FunctionalReLU(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x)


def test_pad_value_is_set_by_the_policy() -> None:
    model = convnet()
    quantize_(model, {**BINARY, "pad_value": 1.0})
    assert model[2].pad_value == 1.0
