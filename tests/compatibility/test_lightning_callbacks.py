"""Lightning's callbacks"""

import copy
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import (
    BackboneFinetuning,
    EarlyStopping,
    EMAWeightAveraging,
    GradientAccumulationScheduler,
    ModelCheckpoint,
    ModelSummary,
    StochasticWeightAveraging,
)
from lightning.pytorch.tuner import Tuner
from plain_modules import FOUR_BITS, Plain, digits, mlp, trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from ste_lightning.callbacks import QuantizationAwareTraining
from ste_lightning.layers import QuantLinear


def test_exponential_moving_average() -> None:
    """`EMAWeightAveraging`: latent weights and steps are averaged, and the average is what stays"""
    module = Plain()
    seen: list[Tensor] = []

    class Look(L.Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
            seen.append(pl_module.net[3].weight.detach().clone())

    callbacks = [QuantizationAwareTraining(FOUR_BITS), EMAWeightAveraging(decay=0.5), Look()]
    trainer(callbacks, max_epochs=2).fit(module, digits(3))
    expected = seen[0]
    for weight in seen[1:]:
        expected = 0.5 * expected + 0.5 * weight
    torch.testing.assert_close(module.net[3].weight.detach(), expected)


def test_stochastic_weight_averaging() -> None:
    """`StochasticWeightAveraging` of 4-bit layers: the average over epochs"""
    module = Plain()
    seen: list[Tensor] = []

    class Look(L.Callback):
        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            seen.append(pl_module.net[3].weight.detach().clone())

    swa = StochasticWeightAveraging(swa_lrs=1e-2, swa_epoch_start=1, annealing_epochs=1)
    trainer([QuantizationAwareTraining(FOUR_BITS), Look(), swa], max_epochs=3).fit(
        module, digits(3)
    )
    average = swa._average_model.net[3]
    assert isinstance(average, QuantLinear)
    torch.testing.assert_close(average.weight.detach(), sum(seen[:3]) / 3)


class TwoParts(Plain):
    """A backbone and a head, as BackboneFinetuning wants them."""

    def __init__(self) -> None:
        super().__init__(lr=1e-2)
        net = mlp()
        self.backbone, self.head = net[:6], net[6:]
        self.net = nn.Sequential(self.backbone, self.head)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.head.parameters(), 1e-2)


@pytest.mark.parametrize("finetuning_first", [True, False])
@pytest.mark.filterwarnings("ignore:.*initial backbone lr:UserWarning")
def test_backbone_finetuning(finetuning_first: bool) -> None:
    """`BackboneFinetuning` in both orders: frozen latent weights and steps rest until unfrozen"""
    module = TwoParts()
    history: list[Any] = []

    class Look(L.Callback):
        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            history.append(copy.deepcopy(pl_module.backbone.state_dict()))

    tuning = BackboneFinetuning(unfreeze_backbone_at_epoch=2, backbone_initial_lr=1e-3)
    callbacks = [QuantizationAwareTraining(FOUR_BITS), tuning]
    order = callbacks[::-1] if finetuning_first else callbacks
    trainer([*order, Look()], max_epochs=3).fit(module, digits(4))
    layer = module.backbone[3]
    assert isinstance(layer, QuantLinear)
    names = [name for name, _ in module.backbone.named_parameters() if name.startswith("3.")]
    assert any("scale" in name for name in names)
    for name in names:
        assert torch.equal(history[0][name], history[1][name]), name
    assert not torch.equal(history[1]["3.weight"], history[2]["3.weight"])


def test_tuner(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """`Tuner`: the learning rate and the batch size are searched on the quantized model"""
    monkeypatch.chdir(tmp_path)

    class Batches(Plain):
        def __init__(self) -> None:
            super().__init__()
            self.batch_size, self.lr = 2, 1e-2

        def train_dataloader(self) -> Any:
            return digits(64 // self.batch_size, self.batch_size)

        def val_dataloader(self) -> Any:
            return digits(1)

    torch.manual_seed(0)
    module = Batches()
    run = trainer([QuantizationAwareTraining(FOUR_BITS)], max_epochs=2)
    tuner = Tuner(run)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    found = tuner.lr_find(module, num_training=20, min_lr=1e-5, max_lr=0.03)
    assert found is not None
    assert len(found.results["loss"]) >= 10
    for key, value in before.items():
        assert torch.equal(module.state_dict()[key], value), key
    assert tuner.scale_batch_size(module, max_trials=2, steps_per_trial=1) == 4
    run.fit(module)
    assert isinstance(module.net[3], QuantLinear)


def test_checkpoints_and_early_stopping(tmp_path: Any) -> None:
    """`ModelCheckpoint`, `EarlyStopping`, `GradientAccumulationScheduler`, `ModelSummary`"""
    module = Plain()
    best = ModelCheckpoint(tmp_path, monitor="val_loss", save_weights_only=True)
    callbacks = [
        QuantizationAwareTraining(FOUR_BITS),
        best,
        EarlyStopping("val_loss", patience=0, min_delta=10.0),
        GradientAccumulationScheduler({0: 2}),
        ModelSummary(),
    ]
    run = trainer(callbacks, max_epochs=5, enable_checkpointing=True)
    run.fit(module, digits(4), digits(2))
    assert run.current_epoch == 2  # nothing improves by 10
    saved = torch.load(best.best_model_path, weights_only=True)["state_dict"]
    assert "net.3.weight_quantizer.scale" in saved


def test_cross_validation() -> None:
    """Cross-validation: one callback object over several folds equals a fresh one in each"""
    callback = QuantizationAwareTraining(FOUR_BITS, calibrate_batches=2)
    torch.manual_seed(0)
    start = Plain().state_dict()
    folds = []
    for shared in (True, False):
        states = []
        for fold in range(2):
            module = Plain()
            module.load_state_dict(start)
            own = QuantizationAwareTraining(FOUR_BITS, calibrate_batches=2)
            data = Subset(digits(6).dataset, range(fold * 96, fold * 96 + 96))
            loader = DataLoader(data, batch_size=32)
            trainer([callback if shared else own], max_epochs=2).fit(module, loader)
            states.append(module.state_dict())
        folds.append(states)
    for one, other in zip(*folds, strict=True):
        for key, value in one.items():
            assert torch.equal(value, other[key]), key
