"""One callback object in two fits does what two fresh ones do, whatever its arguments are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from plain_modules import Plain, digits, mlp
from plain_modules import trainer as plain_trainer
from tiny_training import Tiny, fit

import ste_lightning.callbacks as package
from ste_lightning.callbacks import (
    BatchNormReestimation,
    Distillation,
    ExactResume,
    FiniteCheck,
    LastCheckpoint,
    LatentClipping,
    LateWeights,
    OscillationDampening,
    OscillationFreezing,
    QuantizationAwareTraining,
    QuantizationMonitor,
    QuantizationSummary,
    QuantizerSchedules,
    RecurrenceMonitor,
    SignAveraging,
    TrainingProgress,
    TransitionRateScheduling,
)

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers",
    "ignore:.*smaller than the logging interval",
    "ignore:You defined a .validation_step. but have no",
)

LSQ = {"map": "lsq", "bits": 4}
UNSIGNED = {**LSQ, "signed": False}
LEARNED = [{"match": "*", "weight": LSQ, "input": UNSIGNED}]
SCHEDULED = [{"match": "*", "weight": {"rule": "ede"}, "input": "sign"}]
RANGES = [{"match": "*", "weight": "sign", "input": {"map": "uniform", "bits": 4}}]


def distillation() -> L.Callback:
    torch.manual_seed(3)
    return Distillation(mlp(), student="net")


SWAPPING: dict[str, Callable[[], L.Callback]] = {
    "calibrate": lambda: QuantizationAwareTraining(LEARNED, calibrate_batches=3),
    "late": lambda: QuantizationAwareTraining(LEARNED, start_epoch=1),
    "late calibration": lambda: QuantizationAwareTraining(
        LEARNED, start_epoch=1, calibrate_batches=2
    ),
    "schedule": lambda: QuantizationAwareTraining(SCHEDULED, schedule="ede"),
    "late schedule": lambda: QuantizationAwareTraining(SCHEDULED, schedule="ede", start_epoch=1),
    "watch": lambda: QuantizationAwareTraining(RANGES, watch_batches=4),
    "statistics": lambda: QuantizationAwareTraining(RANGES, reestimate_batch_norm=2),
    "distillation": distillation,
    "finite": lambda: QuantizationAwareTraining(RANGES, check_finite=1),
}
OTHERS: dict[str, Callable[[], L.Callback]] = {
    "resume": ExactResume,
    "last": LastCheckpoint,
    "check": lambda: FiniteCheck(2),
    "clipping": lambda: LatentClipping(0.1),
    "weights later": lambda: LateWeights(0.6),
    "dampening": lambda: OscillationDampening(0.5),
    "freezing": lambda: OscillationFreezing(0.01, 0.05, momentum=0.3),
    "monitor": lambda: QuantizationMonitor(every=2, figures=False),
    "summary": QuantizationSummary,
    "batch norm": BatchNormReestimation,
    "schedules": QuantizerSchedules,
    "recurrence": lambda: RecurrenceMonitor(every=3),
    "vote": lambda: SignAveraging(batches=0),
    "progress": TrainingProgress,
    "rate": lambda: TransitionRateScheduling(0.05, momentum=0.9),
}


def test_every_callback_of_the_package_has_a_row() -> None:
    classes = {
        value
        for value in vars(package).values()
        if isinstance(value, type) and issubclass(value, L.Callback)
    }
    assert {type(make()) for make in [*SWAPPING.values(), *OTHERS.values()]} == classes


def swapped(callback: L.Callback, seed: int, folder: Path) -> tuple[Any, ...]:
    torch.manual_seed(seed)
    module = Plain()
    plain_trainer([callback], max_epochs=2).fit(module, digits(5), digits(1))
    return module.state_dict(), callback.state_dict()


def tiny(callback: L.Callback, seed: int, folder: Path) -> tuple[Any, ...]:
    model = Tiny()
    with torch.no_grad():
        model.latent(2).mul_(seed)
    options = {
        "enable_checkpointing": isinstance(callback, LastCheckpoint),
        "enable_progress_bar": isinstance(callback, TrainingProgress),
    }
    run = fit(model, callback, epochs=2, default_root_dir=folder, **options)
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.ckpt"))
    return model.state_dict(), callback.state_dict(), run.logged_metrics, files


@pytest.mark.parametrize("name", [*SWAPPING, *OTHERS])
def test_a_second_fit_is_the_fit_of_a_fresh_callback(name: str, tmp_path: Path) -> None:
    make, run = (SWAPPING[name], swapped) if name in SWAPPING else (OTHERS[name], tiny)
    again = make()
    run(again, 1, tmp_path / "first")
    assert_same(run(again, 2, tmp_path / "second"), run(make(), 2, tmp_path / "fresh"))


@pytest.mark.parametrize("name", ["calibrate", "late calibration", "schedule"])
def test_a_fit_that_failed_leaves_nothing(name: str, tmp_path: Path) -> None:
    again = SWAPPING[name]()
    with pytest.raises(RuntimeError, match="on purpose"):
        plain_trainer([again], max_epochs=2).fit(Failing(), digits(5))
    assert_same(swapped(again, 2, tmp_path), swapped(SWAPPING[name](), 2, tmp_path))


class Failing(Plain):
    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        if self.global_step == 6:
            raise RuntimeError("on purpose")
        return super().training_step(batch, batch_idx)


def assert_same(one: Any, two: Any) -> None:
    """Compare nested states by value."""
    if isinstance(one, torch.Tensor):
        torch.testing.assert_close(one, two, rtol=0, atol=0, equal_nan=True)
    elif isinstance(one, dict):
        assert one.keys() == two.keys()
        for key in one:
            assert_same(one[key], two[key])
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(two)
        for a, b in zip(one, two, strict=True):
            assert_same(a, b)
    else:
        assert one == two or (one != one and two != two)
