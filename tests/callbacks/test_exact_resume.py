"""Training goes on from any of its checkpoints exactly as if it had not been interrupted."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers.logger import Logger
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import MulticlassAccuracy

from ste_lightning.callbacks import ExactResume, LastCheckpoint, QuantizationAwareTraining
from ste_lightning.data.batches import StepLoader
from ste_lightning.layers import QuantLinear
from ste_lightning.models.optimization import build_schedule
from ste_lightning.optim import Bop, Chained
from ste_lightning.running.quiet import quiet

STEPS = 4
LSQ = [{"match": "net.2", "weight": {"map": "lsq", "bits": 4}, "input": {"map": "lsq", "bits": 4}}]


def batch_of(step: int) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(step)
    return torch.randn(8, 4, generator=rng), torch.randint(3, (8,), generator=rng)


class Batches(torch.utils.data.Dataset):
    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        return batch_of(step)


class Module(L.LightningModule):
    """Draws from three generators, logs averages of every kind, has metrics with memory."""

    def __init__(self, bop: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.bop = bop
        middle = QuantLinear(8, 8, weight_quantizer="sign") if bop else nn.Linear(8, 8)
        self.net = nn.Sequential(
            nn.Linear(4, 8), nn.BatchNorm1d(8), middle, nn.Dropout(0.3), nn.Linear(8, 3)
        )
        self.accuracy = MulticlassAccuracy(3)

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        logits = self.net(batch[0] + 0.1 * float(np.random.standard_normal()))
        loss = nn.functional.cross_entropy(logits, batch[1])
        self.accuracy.update(logits, batch[1])
        self.log("train/accuracy", self.accuracy, on_step=False, on_epoch=True)
        self.log("train/loss", loss, on_step=True, on_epoch=True)
        self.log("train/most", loss, on_step=False, on_epoch=True, reduce_fx="max")
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        self.log("val/loss", nn.functional.cross_entropy(self.net(batch[0]), batch[1]))

    def configure_optimizers(self) -> Any:
        if self.bop:
            own = [self.net[2].weight]
            rest = [p for p in self.parameters() if p is not own[0]]
            return Chained(Bop(own, lr=0.5, threshold=1e-3), torch.optim.Adam(rest, 0.01))
        optimizer = torch.optim.Adam(self.parameters(), 1e-2)
        steps = int(self.trainer.estimated_stepping_batches)  # has the loaders made early
        schedule = build_schedule({"schedule": "cosine"}, optimizer, max(steps, 100))
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


class Data(L.LightningDataModule):
    def train_dataloader(self) -> Any:
        return StepLoader(Batches(), STEPS)

    def val_dataloader(self) -> Any:
        return DataLoader(TensorDataset(*batch_of(1000)), batch_size=4)


class Shuffled(Data):
    """A loader that cannot say where it is: exact at the end of epochs only."""

    def train_dataloader(self) -> Any:
        return DataLoader(TensorDataset(*batch_of(1)), batch_size=2, shuffle=True)


class Rows(Logger):
    """Keeps what is logged."""

    name, version = "rows", 0

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[int | None, dict[str, float]]] = []

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.rows.append((step, dict(metrics)))

    def log_hyperparams(self, *args: Any) -> None:
        pass


class Keeping(TorchCheckpointIO):
    """Keeps a copy of every last checkpoint, with the number of rows logged before it."""

    def __init__(self, rows: Rows) -> None:
        super().__init__()
        self.kept: list[tuple[Path, int]] = []
        self.rows = rows

    def save_checkpoint(self, checkpoint: Any, path: Any, storage_options: Any = None) -> None:
        super().save_checkpoint(checkpoint, path, storage_options)
        if Path(path).name == "last.ckpt":
            copy = Path(path).with_name(f"{len(self.kept)}.ckpt")
            shutil.copy(path, copy)
            self.kept.append((copy, len(self.rows.rows)))


def fit(
    folder: Path,
    module: Module,
    callbacks: tuple[L.Callback, ...] = (),
    data: L.LightningDataModule | None = None,
    ckpt_path: Path | None = None,
    minutes: float | None = 0.0,
    **options: Any,
) -> tuple[L.Trainer, Keeping, ModelCheckpoint]:
    torch.manual_seed(1)
    np.random.seed(1)
    rows = Rows()
    io = Keeping(rows)
    best = ModelCheckpoint(
        folder, "best", monitor="val/loss", mode="max", enable_version_counter=False
    )
    trainer = L.Trainer(
        **{"max_epochs": 2, **options},
        accelerator="cpu",
        devices=1,
        logger=rows,
        plugins=[io],
        callbacks=[*callbacks, ExactResume(), LastCheckpoint(str(folder), minutes), best],
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=2,
        num_sanity_val_steps=0,
    )
    trainer.fit(module, data or Data(), ckpt_path=ckpt_path, weights_only=True)
    return trainer, io, best


def same(one: Any, two: Any) -> bool:
    if isinstance(one, Tensor):
        return torch.equal(one, two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(same(one[key], two[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(two) and all(map(same, one, two))
    return one == two


pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*exists and is not empty.*"),
    pytest.mark.filterwarnings("ignore:The dirpath has changed.*"),
    pytest.mark.filterwarnings("ignore:The number of training batches.*"),
]
KINDS: dict[str, dict[str, Any]] = {
    "adam": {},
    "learned steps": {"qat": True},
    "bop": {"bop": True},
    "accumulated": {"accumulate_grad_batches": 3},
    "counted in steps": {"max_epochs": -1, "max_steps": 6},
    "validated within": {"val_check_interval": 2},
    "validated over epochs": {
        "val_check_interval": 3,
        "check_val_every_n_epoch": None,
    },
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_checkpoint_leads_to_the_same_end(tmp_path: Path, kind: str) -> None:
    options = dict(KINDS[kind])
    qat, bop = options.pop("qat", False), options.pop("bop", False)

    def callbacks() -> tuple[L.Callback, ...]:
        return (QuantizationAwareTraining(LSQ, calibrate_batches=6),) if qat else ()

    trainer, io, best = fit(tmp_path / "whole", Module(bop), callbacks(), **options)
    end = trainer.lightning_module.state_dict()
    optimizer = trainer.optimizers[0].state_dict()
    assert len(io.kept) == trainer.global_step  # one at each step
    for path, logged in io.kept:
        folder = tmp_path / path.stem
        again, later, found = fit(folder, Module(bop), callbacks(), ckpt_path=path, **options)
        assert same(end, again.lightning_module.state_dict()), path.stem
        assert same(optimizer, again.optimizers[0].state_dict()), path.stem
        assert found.best_model_score == best.best_model_score, path.stem
        assert Path(found.best_model_path) == folder / "best.ckpt", path.stem
        both = [
            torch.load(f / "best.ckpt", weights_only=True) for f in (tmp_path / "whole", folder)
        ]
        assert same(both[0]["state_dict"], both[1]["state_dict"]), path.stem
        # What is logged afterwards is what was logged then; at most the row of the very step of
        # the checkpoint had yet to come.
        whole = io.rows.rows
        assert later.rows.rows in (whole[logged:], whole[logged + 1 :]), path.stem


def test_a_loader_without_a_position_is_exact_at_the_end_of_epochs(tmp_path: Path) -> None:
    trainer, io, _ = fit(tmp_path, Module(), data=Shuffled(), minutes=None)
    assert len(io.kept) == 2
    for path, _ in io.kept:
        folder = tmp_path / path.stem
        again, _, _ = fit(folder, Module(), data=Shuffled(), ckpt_path=path, minutes=None)
        assert same(trainer.lightning_module.state_dict(), again.lightning_module.state_dict())


class Endless(torch.utils.data.IterableDataset):
    """Batches without a known number."""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return map(batch_of, range(STEPS))


class Streamed(Data):
    def train_dataloader(self) -> Any:
        return DataLoader(Endless(), batch_size=None)


@pytest.mark.parametrize(
    ("data", "said"),
    [(Shuffled, "your dataloader is not resumable"), (Streamed, "DataLoader cannot say where")],
)
def test_who_resumes_other_batches_is_told(tmp_path: Path, data: type[Data], said: str) -> None:
    _, io, _ = fit(tmp_path, Module(), data=data(), max_epochs=1)
    with quiet(), pytest.warns(UserWarning, match=said):
        fit(tmp_path / "b", Module(), data=data(), ckpt_path=io.kept[1][0], max_epochs=1)


def test_a_finished_training_is_the_beginning_of_a_longer_one(tmp_path: Path) -> None:
    longer, _, _ = fit(tmp_path / "a", Module(), max_epochs=3)
    fit(tmp_path / "b", Module(), max_epochs=1, minutes=None)
    again, _, _ = fit(
        tmp_path / "b", Module(), max_epochs=3, ckpt_path=tmp_path / "b" / "last.ckpt"
    )
    assert same(longer.lightning_module.state_dict(), again.lightning_module.state_dict())


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C as in a terminal: what started the tests may ignore it."""
    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for one, handler in before.items():
        signal.signal(one, handler)


class At(L.Callback):
    """Sends a signal to this process in the middle of a step."""

    def __init__(self, step: int, *signals: signal.Signals) -> None:
        self.step, self.signals = step, signals

    def on_before_optimizer_step(self, trainer: L.Trainer, *rest: Any) -> None:
        if trainer.global_step == self.step:
            for one in self.signals:
                signal.raise_signal(one)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(
    ("stop", "step"), [(signal.SIGINT, 1), (signal.SIGINT, 3), (signal.SIGTERM, 5)]
)
def test_stopped_by_a_signal_it_finishes_the_step_and_saves(
    tmp_path: Path, step: int, stop: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, _, _ = fit(tmp_path / "whole", Module(), minutes=None)
    with pytest.raises(SystemExit):  # Lightning's SIGTERMException is one
        fit(tmp_path, Module(), (At(step, stop),), minutes=None)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert ("Ctrl-C again" in capsys.readouterr().err) == (stop == signal.SIGINT)
    last = tmp_path / "last.ckpt"
    assert torch.load(last, weights_only=True)["global_step"] == step + 1
    again, _, _ = fit(tmp_path, Module(), ckpt_path=last, minutes=None)
    assert same(whole.lightning_module.state_dict(), again.lightning_module.state_dict())


@pytest.mark.usefixtures("interruptible")
def test_terminated_within_a_validation_it_leaves_the_last_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        fit(tmp_path, Module(), (At(2 * STEPS - 1, signal.SIGTERM),), minutes=None)
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == STEPS


@pytest.mark.usefixtures("interruptible")
def test_a_second_interrupt_stops_at_once_and_leaves_the_last_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        fit(tmp_path, Module(), (At(5, signal.SIGINT, signal.SIGINT),), minutes=None)
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == STEPS


def test_an_error_leaves_the_last_checkpoint_as_it_was(tmp_path: Path) -> None:
    class Fails(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, *rest: Any) -> None:
            if trainer.global_step == STEPS + 2:
                raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fit(tmp_path, Module(), (Fails(),), minutes=None)
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == STEPS
