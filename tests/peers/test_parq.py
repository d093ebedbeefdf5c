"""PARQ (torchao's QuantOptimizer) beside our layers: its formulas against ours, and together."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("torchao")
    from torchao.prototype.parq import LSBQuantizer, ProxHardQuant, ProxPARQ, QuantOptimizer
    from torchao.prototype.parq.optim.parq import normalized_mirror_sigmoid

from tiny_training import Stop, Tiny, fit, trainer
from tiny_training import data as batches

from ste_lightning.functional.schedules import mirror_sigmoid
from ste_lightning.optim import quantizer_param_groups
from ste_lightning.quantizers import build


def test_the_annealing_is_theirs() -> None:
    for progress in np.linspace(0, 0.99, 34):
        theirs = normalized_mirror_sigmoid(progress, 0.0, 1.0, 10.0, 0.5)
        assert mirror_sigmoid(progress) == pytest.approx(theirs, abs=1e-12)


def test_their_annealing_off_the_centre_does_not_start_at_one_and_ours_does() -> None:
    assert normalized_mirror_sigmoid(0.0, 0.0, 1.0, 10.0, 0.3) < 0.97
    assert mirror_sigmoid(0.0, center=0.3) == pytest.approx(1.0)


@pytest.mark.parametrize("rho", [1.0, 0.6, 0.25, 0.0])
def test_the_proximal_map_is_theirs(rho: float) -> None:
    p = torch.randn(6, 40, generator=torch.Generator().manual_seed(0))
    _, targets = LSBQuantizer().quantize(p, 1, dim=-1)
    found = build({"map": "lsbq", "rho": rho}, operand="weights")(p)
    if rho == 1.0:
        torch.testing.assert_close(found, p.clamp(targets[:, :1], targets[:, 1:]))
        return
    theirs = p.clone()
    if rho == 0.0:
        ProxHardQuant().apply_(theirs, None, targets, 0, dim=-1)
    else:
        step = min(range(1000), key=lambda s: abs(mirror_sigmoid(s / 1000) - rho))
        ProxPARQ(0, 1000).apply_(theirs, None, targets, step, dim=-1)
        rho = mirror_sigmoid(step / 1000)
        found = build({"map": "lsbq", "rho": rho}, operand="weights")(p)
    torch.testing.assert_close(found, theirs, atol=1e-6, rtol=1e-5)


class Beside(Tiny):
    """The convolution's weights by PARQ, its inputs and the last layer by ours."""

    def __init__(self) -> None:
        super().__init__()
        self.net[2].weight_quantizer = None

    def configure_optimizers(self) -> torch.optim.Optimizer:
        groups = quantizer_param_groups(self, lr=0.02)
        own = [self.net[2].weight]
        for group in groups:
            group["params"] = [p for p in group["params"] if p is not own[0]]
        groups.append({"name": "parq", "params": own, "lr": 0.02, "quant_bits": 1})
        base = torch.optim.SGD(groups, lr=0.02, momentum=0.9)
        return QuantOptimizer(base, LSBQuantizer(), ProxPARQ(2, 16), quant_period=2)


@pytest.mark.filterwarnings("ignore")
def test_both_train_in_one_model_and_resume(tmp_path: Any) -> None:
    whole = Beside()
    fit(whole)
    assert whole.latent(2).unique().numel() == 2
    assert whole.latent(5).unique().numel() > 2
    assert set(whole.net[5].quantized_weight().unique().tolist()) == {-1.0, 1.0}
    fit(Beside(), Stop(tmp_path / "a.ckpt", 1))
    resumed = Beside()
    trainer([]).fit(resumed, batches(), ckpt_path=tmp_path / "a.ckpt")
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(value, resumed.state_dict()[name], msg=name)
