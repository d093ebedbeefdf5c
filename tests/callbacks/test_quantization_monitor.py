from __future__ import annotations

import csv
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from matplotlib.figure import Figure
from tiny_training import Tiny, fit, interrupted
from torch import nn

from ste_lightning.callbacks import QuantizationMonitor
from ste_lightning.callbacks.figure_logging import log_figure
from ste_lightning.callbacks.learned_numbers import learned_numbers, record_numbers
from ste_lightning.callbacks.quantization_monitor import _spacing
from ste_lightning.errors import ConfigurationError
from ste_lightning.layers import RSign


def rows(folder: Any) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as file:
        return [row for row in csv.DictReader(file) if row["quantization/flip_ratio"]]


class Truth(L.Callback):
    """The monitored values, computed from the tensors themselves in NumPy."""

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.values: list[dict[str, float]] = []

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        self.before = pl_module.latent(2).detach().numpy().copy()
        self.gradient = pl_module.latent(2).grad.numpy().copy()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *rest: Any) -> None:
        w = pl_module.latent(2).detach().numpy().astype(np.float64)
        p = np.mean(w >= 0)
        shares = np.array([p, 1 - p])
        self.values.append(
            {
                "flip_ratio": np.mean((w >= 0) != (self.before >= 0)),
                "gradient_stability": np.var(np.abs(self.gradient), ddof=1),
                "no_gradient": np.mean(np.abs(w) > 1),
                "outside_support": np.mean(np.abs(w) > 1),
                "sign_entropy": -np.sum(shares * np.log2(np.where(shares > 0, shares, 1))),
                "estimating_error": np.linalg.norm(np.clip(w, -1, 1) - np.where(w >= 0, 1, -1)),
                "scale_drift": 0.0,
            }
        )


def test_logged_values_are_those_of_the_tensors(tmp_path) -> None:
    truth = Truth()
    logger = CSVLogger(tmp_path, name="", version="")
    fit(Tiny(lr=0.3), truth, QuantizationMonitor(every=5), logger=logger)
    logged = rows(tmp_path)
    assert [int(row["step"]) for row in logged] == [4, 9, 14, 19]
    for row in logged:
        for name, value in truth.values[int(row["step"])].items():
            found = float(row[f"quantization/{name}/net.2"])
            assert found == pytest.approx(value, rel=1e-5, abs=1e-9), name
        a, b = (float(row[f"quantization/flip_ratio/net.{i}"]) for i in (2, 5))
        whole = (a * 216 + b * 48) / 264
        assert float(row["quantization/flip_ratio"]) == pytest.approx(whole)
        a, b = (float(row[f"quantization/estimating_error/net.{i}"]) for i in (2, 5))
        assert float(row["quantization/estimating_error"]) == pytest.approx(a + b)
        assert 0 <= float(row["quantization/dead_channels"]) <= 1
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {
        "quantization-latent_weights-24.png",
        "quantization-flip_ratio-24.png",
    }


def test_accumulation_counts_optimizer_steps_and_listens_to_all_their_batches(tmp_path) -> None:
    monitor = QuantizationMonitor(every=2, figures=False)
    logger = CSVLogger(tmp_path, name="", version="")
    model = Tiny()
    fit(model, monitor, logger=logger, accumulate_grad_batches=4, epochs=2)
    assert [int(row["step"]) for row in rows(tmp_path)] == [1, 3]
    assert not (tmp_path / "figures").exists()
    assert not model.net[2].input_quantizer._forward_hooks


def test_dead_inputs_are_seen() -> None:
    class Dead(Tiny):
        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            with torch.no_grad():
                self.net[1].bias[0] = 100.0  # this channel's input is always +1
                self.net[3].bias[0] = 100.0  # as are these four features
            return super().training_step(batch, batch_idx)

    class Collect(QuantizationMonitor):
        def _flip_ratios(self, flips: Any) -> Any:
            self.dead = self._metrics["dead_channels"].compute()
            return super()._flip_ratios(flips)

    monitor = Collect(every=4)
    fit(Dead(), monitor, epochs=1)
    assert monitor.dead["net.2"] == 0.25
    assert float(monitor.dead["net.5"]) == pytest.approx(4 / 24)


@pytest.mark.parametrize("weight", [{"map": "sign", "scale": "channel_mean"}, "twn"])
def test_other_maps_and_scales_are_monitored(tmp_path, weight) -> None:
    logger = CSVLogger(tmp_path, name="", version="")
    fit(Tiny(weight=weight, inputs=None), QuantizationMonitor(every=4), logger=logger)
    row = rows(tmp_path)[-1]
    assert abs(float(row["quantization/scale_drift/net.2"])) > 0
    assert ("quantization/estimating_error" in row) == (weight != "twn")
    assert "quantization/dead_channels" not in row
    assert all(np.isfinite(float(v)) for k, v in row.items() if k.startswith("quant"))


def test_reference_scales_and_history_resume(tmp_path) -> None:
    def make() -> QuantizationMonitor:
        return QuantizationMonitor(every=3)

    whole = make()
    fit(Tiny(), whole)
    _, resumed = interrupted(make, tmp_path / "a.ckpt")
    assert resumed.history == whole.history
    assert resumed.learned == whole.learned
    assert len(whole.history["net.2"]) == 8
    assert resumed.state_dict().keys() == whole.state_dict().keys()


def test_monitoring_does_not_change_the_training() -> None:
    plain, watched = Tiny(), Tiny()
    fit(plain)
    fit(watched, QuantizationMonitor(every=1))
    for name, value in plain.state_dict().items():
        assert torch.equal(value, watched.state_dict()[name]), name


def test_tensorboard_gets_values_and_figures(tmp_path) -> None:
    logger = TensorBoardLogger(tmp_path, name="", version="")
    fit(Tiny(), QuantizationMonitor(every=10), logger=logger)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path))
    events.Reload()
    tags = events.Tags()
    assert "quantization/flip_ratio" in tags["scalars"]
    assert set(tags["images"]) == {"quantization/latent_weights", "quantization/flip_ratio"}


class WandbLike:
    """Known by ``log_image`` only."""

    experiment = object()

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def log_image(self, **options: Any) -> None:
        self.calls.append(options)


class MlflowLike:
    """Known by its experiment's ``log_figure`` only."""

    run_id = "run"

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.experiment = self

    def log_figure(self, *arguments: Any) -> None:
        self.calls.append(arguments)


def test_wandb_and_mlflow_are_known_by_their_methods() -> None:
    figure = Figure(figsize=(1, 1))
    figure.subplots().plot([0, 1])
    wandb, mlflow = WandbLike(), MlflowLike()
    assert log_figure(wandb, "a/b", figure, 7)
    assert wandb.calls[0]["key"] == "a/b"
    assert wandb.calls[0]["images"][0].shape == (100, 100, 3)
    assert log_figure(mlflow, "a/b", figure, 7)
    assert mlflow.calls == [("run", figure, "figures/a-b-7.png")]
    assert not log_figure(object(), "a/b", figure, 7)


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigurationError):
        QuantizationMonitor(every=0)
    with pytest.raises(ConfigurationError, match="weight quantizer"):
        fit(Tiny(weight=None), QuantizationMonitor())


def test_a_model_without_quantizers_may_train_unmeasured(tmp_path) -> None:
    logger = CSVLogger(tmp_path, name="", version="")
    float_model = Tiny(weight=None, inputs=None)
    fit(float_model, QuantizationMonitor(required=False), logger=logger)
    assert not (tmp_path / "metrics.csv").exists()
    with pytest.raises(ConfigurationError, match="no layer has a weight quantizer"):
        fit(float_model, QuantizationMonitor())


def test_histograms_count_latent_weights_in_units_of_their_mean_magnitude() -> None:
    class Late(QuantizationMonitor):
        def on_train_batch_end(self, trainer: Any, module: Any, *rest: Any) -> None:
            super().on_train_batch_end(trainer, module, *rest)
            self.weights = module.latent(2).detach().numpy().copy()

    monitor = Late(every=24)
    fit(Tiny(), monitor)
    ((step, counts),) = monitor.histograms["net.2"]
    scaled = np.clip(monitor.weights / np.abs(monitor.weights).mean(), -4, 4)
    assert step == 23
    assert counts == np.histogram(scaled, 41, (-4, 4))[0].tolist()


def test_scales_and_thresholds_are_recorded() -> None:
    monitor = QuantizationMonitor(every=8)
    model = Tiny(weight={"map": "lsq", "bits": 4}, inputs={"map": "n2uq", "bits": 2})
    fit(model, monitor)
    learned = {name: one for name, one in monitor.learned.items() if name.startswith("net.2.")}
    assert {name.removeprefix("net.2.") for name in learned} == {
        "weight_quantizer.scale", "input_quantizer.scale_in", "input_quantizer.scale_out",
        "input_quantizer.thresholds",
    }  # fmt: skip
    layer = model.net[2]
    assert [step for step, _ in learned["net.2.weight_quantizer.scale"]["points"]] == [7, 15, 23]
    last = {name: one["points"][-1][1] for name, one in learned.items()}
    scale = layer.weight_quantizer.scale.tolist()
    assert last["net.2.weight_quantizer.scale"] == pytest.approx([scale], rel=1e-5)
    inputs = layer.input_quantizer
    thresholds = torch.tensor(last["net.2.input_quantizer.thresholds"])
    for below, above in [(0, 1), (1, 2)]:  # between two thresholds lies one level
        middle = (thresholds[below] + thresholds[above]) / 2
        assert int(inputs.integer_levels(middle[None])[0]) == below + 1
    edges = torch.cat([thresholds * 0.99, thresholds * 1.01])
    assert inputs.integer_levels(edges)[0].tolist() == [0, 1, 2, 1, 2, 3]


def test_thresholds_of_many_channels_are_summed_up() -> None:
    sign = RSign(10)
    with torch.no_grad():
        sign.bias.copy_(torch.arange(10.0))
    numbers = learned_numbers(nn.Sequential(sign), {})
    record: dict[str, Any] = {}
    record_numbers(record, 3, numbers)
    assert record == {
        "0.thresholds": {
            "values": ["mean", "smallest", "largest"],
            "points": [(3, [-4.5, -9.0, 0.0])],
        }
    }
    assert sign(torch.tensor([[-8.9] * 10]))[0].tolist() == [-1.0] * 9 + [1.0]


@pytest.mark.parametrize(("steps", "every"), [(24, 64), (100_000, 500), (float("inf"), 64)])
def test_measurements_spread_over_a_long_training(steps, every) -> None:
    assert _spacing(steps) == every
