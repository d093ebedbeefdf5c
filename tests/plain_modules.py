"""LightningModules as users write them, without a thought of quantization."""

from __future__ import annotations

from typing import Any

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

BINARY = [{"match": "*", "weight": "sign", "input": "sign"}]
LSQ = {"map": "lsq", "bits": 4}
FOUR_BITS = [{"match": "*", "weight": LSQ, "input": {**LSQ, "signed": False}}]  # after ReLU

# what Lightning says of small and resumed trainings
QUIET = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers",
    "ignore:.*`isinstance.treespec, LeafSpec.` is deprecated",
    "ignore:.*smaller than the logging interval",
    "ignore:You defined a .validation_step. but have no",
    "ignore:You're resuming from a checkpoint that ended before the epoch",
    "ignore:Checkpoint directory .* exists and is not empty",
)


def digits(batches: int, batch_size: int = 32, shuffle: bool = False) -> DataLoader[Any]:
    x, y = load_digits(return_X_y=True)
    data = TensorDataset(
        torch.tensor(x[: batches * batch_size] / 16, dtype=torch.float32),
        torch.tensor(y[: batches * batch_size]),
    )
    return DataLoader(data, batch_size, shuffle=shuffle)


def mlp(width: int = 24) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(64, width),
        nn.BatchNorm1d(width),
        nn.ReLU(),
        nn.Linear(width, width),
        nn.BatchNorm1d(width),
        nn.ReLU(),
        nn.Linear(width, width),
        nn.BatchNorm1d(width),
        nn.ReLU(),
        nn.Linear(width, 10),
    )


class Plain(L.LightningModule):
    """Layers made in ``__init__``."""

    def __init__(self, lr: float = 1e-2) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = mlp()

    def forward(self, x: Tensor, *, scale: float = 1.0) -> Tensor:
        return self.net(x) * scale

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = F.cross_entropy(self(batch[0], scale=1.0), batch[1])  # a keyword argument
        self.log("loss", loss)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", F.cross_entropy(self(batch[0]), batch[1]))

    test_step = validation_step

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), self.hparams.lr, momentum=0.9)


class Configured(Plain):
    """Layers made in ``configure_model``."""

    def __init__(self, lr: float = 1e-2) -> None:
        super().__init__(lr)
        self.net = None

    def configure_model(self) -> None:
        if self.net is None:
            self.net = mlp()


class SetUp(Plain):
    """Layers made in ``setup``."""

    def __init__(self, lr: float = 1e-2) -> None:
        super().__init__(lr)
        self.net = None

    def setup(self, stage: str) -> None:
        if self.net is None:
            self.net = mlp()


def trainer(callbacks: list[Any], **kwargs: Any) -> L.Trainer:
    defaults: dict[str, Any] = {
        "max_epochs": 1,
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return L.Trainer(callbacks=callbacks, **{**defaults, **kwargs})
