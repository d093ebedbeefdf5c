"""A tiny quantized network, its data and a silent trainer, for the tests of callbacks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from ste_lightning.layers import QuantConv2d, QuantLinear
from ste_lightning.optim import quantizer_param_groups


class Tiny(L.LightningModule):
    """conv (float) -> quantized conv -> quantized linear, on 6 x 6 images."""

    def __init__(self, lr: float = 0.05, weight: Any = "sign", inputs: Any = "sign") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.lr = lr
        kinds = {"weight_quantizer": weight, "input_quantizer": inputs}
        self.net = nn.Sequential(
            nn.Conv2d(1, 4, 3),
            nn.BatchNorm2d(4),
            QuantConv2d(4, 6, 3, **kinds),
            nn.BatchNorm2d(6),
            nn.Flatten(),
            QuantLinear(24, 2, **kinds),
        )

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        return nn.functional.cross_entropy(self.net(x) / 5, y)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(quantizer_param_groups(self, self.lr), momentum=0.9)

    def latent(self, index: int) -> Tensor:
        return self.net[index].weight


def data(batches: int = 8) -> DataLoader:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(16 * batches, 1, 6, 6, generator=generator)
    y = (x.mean((1, 2, 3)) > 0).long()
    return DataLoader(TensorDataset(x, y), batch_size=16)


def trainer(callbacks: Sequence[L.Callback], epochs: int = 3, **options: Any) -> L.Trainer:
    settings = {
        "accelerator": "cpu",
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "log_every_n_steps": 8,
    }
    return L.Trainer(max_epochs=epochs, callbacks=list(callbacks), **{**settings, **options})


class Stop(L.Callback):
    """Saves a checkpoint and ends the training after an epoch, which keeps its full length."""

    def __init__(self, path: Path, after: int) -> None:
        self.path, self.after = path, after

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.current_epoch + 1 == self.after:
            trainer.should_stop = True

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        trainer.save_checkpoint(self.path)


def fit(model: Tiny, *callbacks: L.Callback, epochs: int = 3, **options: Any) -> L.Trainer:
    made = trainer(callbacks, epochs, **options)
    made.fit(model, data())
    return made


def interrupted(make: Any, path: Path, epochs: int = 3) -> tuple[Tiny, L.Callback]:
    """Train to the first epoch's end, start anew from the checkpoint, and finish."""
    fit(Tiny(), make(), Stop(path, 1), epochs=epochs)
    model, callback = Tiny(), make()
    resumed = trainer([callback], epochs)
    resumed.fit(model, data(), ckpt_path=path)
    return model, callback
