"""The watch and batch norm's estimation on plain torch modules, without a trainer."""

from __future__ import annotations

import copy
import pickle
import re

import pytest
import torch
from torch import nn

from ste_lightning.convert import (
    Calibration,
    QuantizerWatch,
    dead_weights,
    quantize_,
    reestimate_batch_norm,
)
from ste_lightning.layers import QuantLinear, QuantMultiheadAttention


def watched(layer: nn.Module, x: torch.Tensor) -> list[str]:
    watch = QuantizerWatch(layer)
    watch.attach()
    layer(x)
    watch.detach()
    assert not layer._forward_pre_hooks
    return [finding.message for finding in watch.findings()]


@pytest.mark.parametrize(
    ("spec", "shift", "message"),
    [
        ("sign", 0.0, None),
        ("sign", 9.0, "is constant: sign/clipped gave 1 for every value.*a ReLU"),
        ("sign", -9.0, r"gave -1 for every value.*RSign"),
        ("step", 9.0, "gave 1 for every"),
        ("step", 0.0, None),
        ({"map": "ternary", "threshold": 20.0}, 0.0, "gave 0 for every.*smaller scale"),
        ("ternary", 9.0, "is constant: ternary/.*nonnegative values"),
        ({"map": "uniform", "bits": 4}, 9.0, None),
        ({"map": "uniform", "bits": 4, "symmetric": True}, 9.0, "one-sided: uniform"),
        ("token", 9.0, "one-sided: token"),
    ],
)
def test_inputs_are_judged_by_what_their_quantizer_makes_of_them(
    spec: object, shift: float, message: str | None
) -> None:
    torch.manual_seed(0)
    layer = QuantLinear(8, 4, input_quantizer=spec)  # type: ignore[arg-type]
    found = watched(layer, torch.randn(16, 8) + shift)
    if message is None:
        assert found == []
    else:
        assert len(found) == 1
        assert re.search(message, found[0])


def test_few_values_prove_nothing() -> None:
    assert watched(QuantLinear(4, 2), torch.ones(2, 4)) == []


def test_attention_is_watched_in_all_its_inputs() -> None:
    layer = QuantMultiheadAttention(8, 2, batch_first=True)
    good, bad = torch.randn(2, 5, 8), torch.full((2, 5, 8), 3.0)
    watch = QuantizerWatch(layer)
    watch.attach()
    layer(bad, key=bad, value=good)
    assert "" not in {finding.layer for finding in watch.findings()}
    watch.detach()
    watch = QuantizerWatch(layer)
    watch.attach()
    pickle.dumps(copy.deepcopy(layer))  # the hooks do not stand in the way
    layer(bad, key=bad, value=bad)
    assert "" in {finding.layer for finding in watch.findings()}
    watch.detach()


def test_dead_weights_of_one_and_of_more_bits() -> None:
    model = nn.Sequential(*[nn.Linear(6, 6) for _ in range(4)])
    with torch.no_grad():
        model[1].weight.abs_().add_(0.1)
        model[2].weight.mul_(1e-3)
    scaled = {"map": "sign", "scale": "channel_mean"}
    fixed = {"map": "ternary", "threshold": 0.5}
    quantize_(model, [{"match": "1", "weight": scaled}, {"match": "2", "weight": fixed}])
    assert [finding.layer for finding in dead_weights(model)] == ["1", "2"]


def test_calibration_averages_over_batches_and_keeps_little() -> None:
    spec = {"map": "uniform", "bits": 4}
    layer = QuantLinear(4, 2, input_quantizer=spec).train()
    calibration = Calibration(layer, 2)
    calibration.attach()
    layer(torch.tensor([[0.0, 1.0, 2.0, 3.0]]))
    layer(torch.tensor([[0.0, 1.0, 2.0, 9.0]]))
    assert float(layer.input_quantizer.maximum) == pytest.approx(9.0, abs=0.7)
    layer.eval()(torch.full((1, 4), 50.0))
    calibration.finish()
    assert not calibration.kept
    assert float(layer.input_quantizer.maximum) < 10


def test_batch_norm_statistics_are_those_of_the_batches() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 1))
    model[2].eval()
    batches = [torch.randn(32, 3) for _ in range(5)]
    assert reestimate_batch_norm(model, batches) == 5
    means = torch.stack([model[0](batch).mean(0) for batch in batches])
    torch.testing.assert_close(model[1].running_mean, means.mean(0))
    assert model[1].momentum == 0.1
    assert model.training
    assert not model[2].training
    assert reestimate_batch_norm(nn.Linear(3, 3), batches) == 0
