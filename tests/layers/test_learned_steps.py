"""Layers with learned steps keep their float operands alone, and train as the plain ones do."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from training_pairs import loss_curve, watched

from ste_lightning.layers import QuantConv2d, QuantLinear
from ste_lightning.quantizers import LSQ

FOUR: dict[str, Any] = {"map": "lsq", "bits": 4}


def network() -> nn.Module:
    torch.manual_seed(0)
    unsigned = {"map": "lsq", "bits": 3, "signed": False}
    return nn.Sequential(
        QuantConv2d(3, 8, 3, padding=1, weight_quantizer=FOUR, input_quantizer=None, bias=False),
        nn.BatchNorm2d(8),
        QuantConv2d(8, 8, 3, 2, 1, pad_value=1.0, weight_quantizer=FOUR, input_quantizer=FOUR),
        nn.ReLU(),
        nn.Flatten(),
        QuantLinear(8 * 9, 4, weight_quantizer=FOUR, input_quantizer=unsigned),
    )


def test_two_hundred_steps_on_both_paths_are_the_same() -> None:
    torch.manual_seed(1)
    x, y = torch.randn(16, 3, 6, 6), torch.randint(4, (16,))
    curves, steps = [], []
    for net in (network(), watched(network(), LSQ)):
        curves.append(loss_curve(net, torch.optim.Adam(net.parameters(), 0.01), x, y))
        steps.append([p.item() for p in net.parameters() if p.numel() == 1])
    assert torch.equal(curves[0], curves[1])
    assert steps[0] == steps[1]
    assert curves[0][-1] < 0.3 * curves[0][0]


def test_keeps_the_input_and_no_quantized_operand() -> None:
    layer = QuantLinear(256, 64, weight_quantizer=FOUR, input_quantizer=FOUR)
    x = torch.randn(32, 256, requires_grad=True)
    layer(x)  # the first batch sets the step
    saved: list[torch.Tensor] = []

    def keep(t: torch.Tensor) -> torch.Tensor:
        saved.append(t)
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        layer(x)
    own = {t.untyped_storage().data_ptr() for t in (x, *layer.parameters())}
    others = [t for t in saved if t.untyped_storage().data_ptr() not in own]
    assert sum(t.nbytes for t in others) <= 64  # the two steps


@pytest.mark.parametrize(
    "options",
    [
        {"weight_quantizer": {**FOUR, "rule": "tanh"}, "input_quantizer": FOUR},
        {"weight_quantizer": {"map": "lsq", "bits": 1}, "input_quantizer": FOUR},
    ],
)
def test_other_quantizers_and_transforms_take_the_plain_composition(options: Any) -> None:
    layer = QuantLinear(20, 6, **options)
    x = torch.randn(5, 20)
    layer(x)
    assert layer.lean_product(x) is None
    learned = QuantLinear(20, 6, weight_quantizer=FOUR, input_quantizer=FOUR)
    learned(x)
    assert learned.lean_product(x) is not None
    torch.testing.assert_close(torch.func.vmap(learned)(x), learned(x))
    empty = learned(torch.empty(0, 20, requires_grad=True))
    empty.sum().backward()
    assert empty.shape == (0, 6)
