"""Three LightningModules of other people's making, at five bit widths, on real data.

They use Lightning and torch as their tutorials do and know nothing of quantization. Under the
callback their loss falls, a run resumed from its checkpoint is the uninterrupted run to the bit,
and the trained network exports.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import re
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_diabetes, load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from ste_lightning.callbacks import QuantizationAwareTraining

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers",
    "ignore:.*`isinstance.treespec, LeafSpec.` is deprecated",
    "ignore:.*smaller than the logging interval",
    "ignore:You're resuming from a checkpoint that ended before",
    "ignore:enable_nested_tensor is True",
    "ignore:The tensor attributes self.lstm",
    "ignore:The PyTorch API of nested tensors",
)

Batch = tuple[Tensor, Tensor]


class BasicBlock(nn.Module):
    """A residual block in torchvision's style."""

    def __init__(self, channels_in: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = None
        if stride != 1 or channels_in != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += identity
        return self.relu(out)


class ImageClassifier(L.LightningModule):
    """A small residual network with a warm-up schedule and label smoothing."""

    def __init__(self, lr: float = 3e-3) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.stem = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True)
        )
        self.layer1 = nn.Sequential(BasicBlock(16, 16))
        self.layer2 = nn.Sequential(BasicBlock(16, 32, 2))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer2(self.layer1(self.stem(x)))
        return self.fc(torch.flatten(self.avgpool(x), 1))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        x, y = batch
        loss = F.cross_entropy(self(x), y, label_smoothing=0.1)
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.lr)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 0.2, total_iters=20)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


class TextClassifier(L.LightningModule):
    """A transformer encoder over characters, made in ``configure_model``."""

    def __init__(self, vocabulary: int = 64, width: int = 32, classes: int = 3) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.encoder = None

    def configure_model(self) -> None:
        if self.encoder is not None:
            return
        width = self.hparams.width
        self.embedding = nn.Embedding(self.hparams.vocabulary, width, padding_idx=0)
        self.position = nn.Parameter(torch.randn(1, 64, width) * 0.02)
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(width, self.hparams.classes)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens) + self.position[:, : tokens.shape[1]]
        return self.head(self.encoder(x).mean(1))

    def training_step(self, batch: Batch) -> Tensor:
        loss = F.cross_entropy(self(batch[0]), batch[1])
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> Any:
        decay = [p for p in self.parameters() if p.dim() > 1]
        rest = [p for p in self.parameters() if p.dim() <= 1]
        groups = [{"params": decay, "weight_decay": 0.01}, {"params": rest, "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, lr=2e-3)


class Regressor(L.LightningModule):
    """An LSTM over the patient's ten measurements and an MLP head, manual optimization."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.lstm = nn.LSTM(1, 16, batch_first=True)
        self.mlp = nn.Sequential(
            nn.Linear(26, 64),
            nn.LayerNorm(64),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Linear(64, 64),
            nn.LayerNorm(64),
            nn.ReLU(),
            nn.Linear(64, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        _, (hidden, _) = self.lstm(x.unsqueeze(-1))
        return self.mlp(torch.cat([x, hidden[-1]], 1)).squeeze(1)

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        optimizer = self.optimizers()
        loss = F.smooth_l1_loss(self(batch[0]), batch[1])
        optimizer.zero_grad()
        self.manual_backward(loss)
        self.clip_gradients(optimizer, gradient_clip_val=1.0, gradient_clip_algorithm="norm")
        optimizer.step()
        self.log("train_loss", loss)

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), 3e-3)


def images() -> TensorDataset:
    x, y = load_digits(return_X_y=True)
    return TensorDataset(
        torch.tensor(x[:960].reshape(-1, 1, 8, 8) / 16, dtype=torch.float32), torch.tensor(y[:960])
    )


def texts() -> TensorDataset:
    """Lines of Python's licence, of the Zen of Python, and of source code of its library."""
    with contextlib.redirect_stdout(io.StringIO()):
        import this
    zen = "".join(this.d.get(c, c) for c in this.s)
    documents = [inspect.getdoc(re) or "", inspect.getsource(re), inspect.getdoc(inspect) or ""]
    documents = [documents[0] + (inspect.getdoc(io) or "") + zen, documents[1]]
    documents.append(" ".join(str(c) for c in load_digits().DESCR))
    x, y = [], []
    for label, text in enumerate(documents):
        codes = torch.tensor([1 + (ord(c) - 32) % 63 for c in text], dtype=torch.int64)
        starts = torch.linspace(0, len(codes) - 33, 192).long()
        x += [codes[s : s + 32] for s in starts]
        y += [label] * len(starts)
    return TensorDataset(torch.stack(x), torch.tensor(y))


def patients() -> TensorDataset:
    x, y = load_diabetes(return_X_y=True)
    x, y = x / x.std(0), (y - y.mean()) / y.std()
    return TensorDataset(torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.float32))


def uniform(bits: int, **more: Any) -> dict[str, Any]:
    return {"map": "uniform", "bits": bits, **more}


ARITHMETICS: dict[str, dict[str, Any]] = {
    "W1A1": {"weight": {"map": "sign", "scale": "channel_mean"}, "input": "sign"},
    "W1.58A8": {"weight": "ternary", "input": uniform(8, symmetric=False)},
    "W2A2": {
        "weight": {"map": "lsq", "bits": 2},
        "input": {"map": "lsq_plus", "bits": 2},
    },
    "W4A4": {"weight": uniform(4), "input": uniform(4, symmetric=False)},
    "W8A8": {"weight": uniform(8), "input": uniform(8, symmetric=False)},
}
MODULES = {
    "cnn": (ImageClassifier, images, 64, torch.randn(4, 1, 8, 8)),
    "transformer": (TextClassifier, texts, 48, torch.randint(1, 60, (4, 32))),
    "regressor": (Regressor, patients, 32, torch.randn(4, 10)),
}


class Losses(L.Callback):
    """Collects the training loss of every step."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        self.values.append(float(trainer.callback_metrics["train_loss"]))


def fit(
    kind: str, arithmetic: str, steps: int, folder: Path, path: Path | None = None
) -> tuple[Any, list[float]]:
    cls, data, size, _ = MODULES[kind]
    torch.manual_seed(0)
    module, losses = cls(), Losses()
    generator = torch.Generator().manual_seed(3)
    batches = [
        data()[torch.randperm(len(data()), generator=generator)[:size]] for _ in range(steps // 2)
    ]
    loader: Any = DataLoader(batches, batch_size=None)  # type: ignore[arg-type]

    class Seed(L.Callback):  # dropout: the same in both runs
        def on_train_batch_start(self, trainer: L.Trainer, *args: Any) -> None:
            torch.manual_seed(trainer.global_step)

        def on_train_epoch_end(self, trainer: L.Trainer, *args: Any) -> None:
            if trainer.current_epoch == 0:
                trainer.save_checkpoint(folder / "half.ckpt")

    callback = QuantizationAwareTraining([{"match": "*", **ARITHMETICS[arithmetic]}])
    run = L.Trainer(
        max_epochs=2,
        accelerator="cpu",
        callbacks=[callback, losses, Seed()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    run.fit(module, loader, ckpt_path=path, weights_only=True)
    return module, losses.values


QUICK = [
    ("cnn", "W1A1"),
    ("cnn", "W4A4"),
    ("transformer", "W1.58A8"),
    ("regressor", "W2A2"),
    ("regressor", "W8A8"),
]
EVERY = [
    pytest.param(kind, arithmetic, 300, marks=pytest.mark.slow)
    for kind in MODULES
    for arithmetic in ARITHMETICS
]


@pytest.mark.parametrize(("kind", "arithmetic", "steps"), [*((*q, 30) for q in QUICK), *EVERY])
def test_trains_resumes_and_exports(kind: str, arithmetic: str, steps: int, tmp_path: Path) -> None:
    whole, losses = fit(kind, arithmetic, steps, tmp_path)
    first, last = sum(losses[:10]) / 10, sum(losses[-10:]) / 10
    assert last < (0.75 if steps >= 200 else 0.95) * first, (first, last)
    resumed, _ = fit(kind, arithmetic, steps, tmp_path, tmp_path / "half.ckpt")
    for key, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key
    sample = MODULES[kind][3]
    whole.eval()
    whole.trainer = None
    with torch.no_grad():
        program = torch.export.export(whole, (sample,))
        torch.testing.assert_close(program.module()(sample), whole(sample))
