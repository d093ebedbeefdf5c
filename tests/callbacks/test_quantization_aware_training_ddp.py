"""Two processes: the same scales, flags and latent weights on both, and the same error."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from plain_modules import Plain, digits, trainer
from torch import nn

from ste_lightning.callbacks import QuantizationAwareTraining
from ste_lightning.convert import quantize_

pytestmark = [
    pytest.mark.forks,
    pytest.mark.filterwarnings(
        "ignore:.*does not have many workers",
        "ignore:You defined a .validation_step. but have no",
        "ignore:.*`isinstance.treespec, LeafSpec.` is deprecated",
        "ignore:.*use of fork",
        "ignore:This process .* is multi-threaded",
        "ignore:.*smaller than the logging interval",
        "ignore:training runs in processes of their own",
    ),
]

LSQ = {"map": "lsq", "bits": 4}


class Keep(L.Callback):
    """Writes each process's state to a file of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        torch.save(pl_module.state_dict(), self.folder / f"{trainer.global_rank}.pt")


def fit(folder: Path, policy: Any, module: Plain, **options: Any) -> list[dict[str, Any]]:
    callbacks = [QuantizationAwareTraining(policy, **options), Keep(folder)]
    run = trainer(callbacks, strategy="ddp_fork", devices=2, max_epochs=2)
    run.fit(module, digits(8))
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def test_a_module_that_would_stay_float_is_announced() -> None:
    def train(module: Plain) -> None:
        callback = QuantizationAwareTraining([{"match": "*", "weight": LSQ}])
        trainer([callback], strategy="ddp_fork", devices=1).fit(module, digits(2))

    with warnings.catch_warnings():
        warnings.filterwarnings("error", "training runs in processes of their own")
        with pytest.raises(Exception, match="but stays float"):
            train(Plain())
    module = Plain()
    quantize_(module, [{"match": "*", "weight": LSQ}])
    before = module.net[3].weight_quantizer.scale.clone()
    train(module)
    assert not torch.equal(module.net[3].weight_quantizer.scale, before)


@pytest.mark.parametrize("calibrate", [pytest.param(0, marks=pytest.mark.slow), 2])
def test_ranks_agree_to_the_bit(tmp_path: Path, calibrate: int) -> None:
    inputs = {**LSQ, "signed": False}
    policy = [
        {"match": "*", "weight": LSQ, "input": inputs},
        {"match": "net.6", "weight": {"rule": "ede", "schedule": "ede"}, "input": "step"},
    ]
    torch.manual_seed(0)
    one, two = fit(tmp_path, policy, Plain(), calibrate_batches=calibrate, reestimate_batch_norm=2)
    assert float(one["net.3.input_quantizer.scale"]) > 0
    assert float(one["net.6.weight_quantizer.rule_t"]) > 1
    for key, value in one.items():
        torch.testing.assert_close(value, two[key], rtol=0, atol=0, msg=key)


class _HalfDead(Plain):
    """Its binary input is constant on one of the two processes only: no error."""

    def forward(self, x: Any, *, scale: float = 1.0) -> Any:
        for index, layer in enumerate(self.net):
            x = layer(x)
            if index == 2 and self.trainer.global_rank == 0:
                x = x.abs()
        return x


def test_the_watch_judges_over_all_processes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = _HalfDead()
    module.net[2] = nn.Identity()
    fit(tmp_path, {"weight": "sign", "input": "sign"}, module)
