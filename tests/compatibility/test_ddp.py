"""Several processes (DDP)"""

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.strategies import DDPStrategy
from plain_modules import FOUR_BITS, Plain, digits, trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, DistributedSampler

from ste_lightning import deploy
from ste_lightning.callbacks import QuantizationAwareTraining, load_quantized

pytestmark = [
    pytest.mark.forks,
    pytest.mark.filterwarnings("ignore:training runs in processes of their own"),
]


class Even(Plain):
    """Each of two processes gets half of every batch, in the order of one process's batches."""

    def __init__(self, world: int = 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        sizes = [(64, 24), (24, 24), (24, 24), (24, 10)]
        layers = [module for size in sizes for module in (nn.Linear(*size), nn.ReLU())]
        self.net = nn.Sequential(*layers[:-1])  # no batch norm: its statistics are a process's own
        self.world = world

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def train_dataloader(self) -> Any:
        data = digits(6).dataset
        if self.world == 1:
            return DataLoader(data, batch_size=32)
        sampler = DistributedSampler(data, 2, self.trainer.global_rank, shuffle=False)
        return DataLoader(data, batch_size=16, sampler=sampler)


class Keep(L.Callback):
    """Saves a checkpoint by all processes when training ends."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        trainer.save_checkpoint(self.path)


def fit(module: Plain, path: Path, ckpt_path: Any = None, epochs: int = 2, **options: Any) -> None:
    callbacks = [QuantizationAwareTraining(FOUR_BITS), Keep(path)]
    run = trainer(callbacks, max_epochs=epochs, use_distributed_sampler=False, **options)
    run.fit(module, ckpt_path=ckpt_path)


def weights(path: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = torch.load(path, weights_only=True)["state_dict"]
    return state


def test_two_processes_are_one(tmp_path: Path) -> None:
    """DDP: two processes train as one does, and go on from each other's checkpoints"""
    one, two = tmp_path / "one.ckpt", tmp_path / "two.ckpt"
    strategy: Any = {"strategy": DDPStrategy(start_method="fork"), "devices": 2}
    fit(Even(), one)
    fit(Even(2), two, **strategy)
    for key, value in weights(one).items():
        torch.testing.assert_close(weights(two)[key], value, rtol=1e-3, atol=1e-4, msg=key)
    # from two processes to one and back
    further, back = tmp_path / "further.ckpt", tmp_path / "back.ckpt"
    fit(Even(), further, ckpt_path=two, epochs=3)
    strategy["strategy"] = DDPStrategy(start_method="fork")
    fit(Even(2), back, ckpt_path=one, epochs=3, **strategy)
    for key, value in weights(further).items():
        torch.testing.assert_close(weights(back)[key], value, rtol=1e-3, atol=1e-4, msg=key)
    packed = deploy.pack(load_quantized(Even, back).net.eval())
    assert packed(torch.rand(3, 64)).shape == (3, 10)
