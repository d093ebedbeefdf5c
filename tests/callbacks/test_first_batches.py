"""What the callback sees in the first batches: dead quantizers, calibration, a late start."""

from __future__ import annotations

from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.trainer.states import TrainerFn
from plain_modules import BINARY, FOUR_BITS, LSQ, QUIET, Plain, digits, trainer
from torch import nn
from torch.utils.data import DataLoader

from ste_lightning.callbacks import QuantizationAwareTraining
from ste_lightning.callbacks.first_batches import FirstBatches
from ste_lightning.convert import Calibration, dead_weights
from ste_lightning.errors import ConfigurationError
from ste_lightning.layers import QuantLinear

pytestmark = QUIET


class Functional(Plain):
    """A ReLU out of sight: called through a lookup that no trace follows."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.ModuleList([nn.Linear(64, 16), nn.Linear(16, 16), nn.Linear(16, 10)])

    def forward(self, x: Any, *, scale: float = 1.0) -> Any:
        if float(x.sum()) > -1e9:  # data-dependent: nothing to trace
            x = self.net[0](x).relu()
        return self.net[2](self.net[1](x))


@pytest.mark.parametrize("batches", [1, 2])
def test_a_constant_input_stops_training_and_names_layer_and_remedy(batches: int) -> None:
    callback = QuantizationAwareTraining(BINARY, watch_batches=batches)
    module = Functional()
    with pytest.raises(ConfigurationError, match=r"input of layer 'net.1' is constant.*ReLU"):
        trainer([callback]).fit(module, digits(4))
    assert not module.net[1].input_quantizer._forward_hooks
    trainer([QuantizationAwareTraining(BINARY, watch_batches=0)]).fit(Functional(), digits(2))


def test_a_one_sided_input_on_a_signed_grid_warns() -> None:
    policy = [{"match": "*", "weight": LSQ, "input": {**LSQ, "signed": True}}]
    with pytest.warns(UserWarning, match="one-sided: lsq/identity with 4 bits never uses"):
        trainer([QuantizationAwareTraining(policy)]).fit(Plain(), digits(3))
    policy = [{"match": "*", "weight": LSQ, "input": {"map": "ternary"}}]
    with pytest.raises(ConfigurationError, match="one-sided: ternary"):
        trainer([QuantizationAwareTraining(policy)]).fit(Plain(), digits(3))


def test_dead_weights_warn_at_the_end_of_an_epoch() -> None:
    module = Plain(lr=0.0)
    with torch.no_grad():
        module.net[6].weight.abs_()
    with pytest.warns(UserWarning, match="weights of layer 'net.6' are all on one level"):
        trainer([QuantizationAwareTraining(BINARY)]).fit(module, digits(2))


@pytest.mark.filterwarnings("error:the weights of layer")
def test_weights_in_the_dead_zone_warn_after_the_first_batches() -> None:
    policy = [{"match": "net.6", "weight": {"map": "ternary", "threshold": 9.0}}]
    training = trainer([QuantizationAwareTraining(policy, watch_batches=1)])
    with pytest.raises(UserWarning, match=r"'net.6' are all on one level.*dead zone.*map: twn"):
        training.fit(Plain(), digits(3))
    assert training.global_step == 1


def test_layers_that_start_at_zero_on_purpose_are_no_finding() -> None:
    layer = QuantLinear(8, 8, weight_quantizer={"map": "uniform", "bits": 4})
    assert not dead_weights(nn.Sequential(layer))
    with torch.no_grad():
        layer.weight.zero_()
    assert not dead_weights(nn.Sequential(layer))


def test_an_example_input_shows_functions_that_no_trace_sees() -> None:
    module = Functional()
    module.example_input_array = torch.randn(4, 64)
    with pytest.raises(ConfigurationError, match="called as a function in the forward"):
        trainer([QuantizationAwareTraining(BINARY)]).fit(module, digits(2))
    assert type(module.net[1]) is nn.Linear


def test_start_epoch_trains_in_float_first() -> None:
    torch.manual_seed(0)
    late, plain = Plain(), Plain()
    plain.load_state_dict(late.state_dict())
    seen = []

    class Look(L.Callback):
        def on_train_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
            seen.append(pl_module.net[3].weight_quantization)

    policy = [{"match": "*", "weight": "sign", "input": "step"}]
    callback = QuantizationAwareTraining(policy, start_epoch=1)
    run = trainer([callback, Look()], max_epochs=3)
    run.fit(late, digits(3))
    assert seen == [False, True, True]
    trainer([], max_epochs=1).fit(plain, digits(3))
    one = Plain()
    one.load_state_dict(plain.state_dict())
    assert late.net[3].weight_quantization


def test_the_float_phase_equals_float_training() -> None:
    torch.manual_seed(0)
    late, plain = Plain(), Plain()
    plain.load_state_dict(late.state_dict())
    policy = [{"match": "*", "weight": "sign", "input": "step"}]
    with pytest.warns(UserWarning, match="start_epoch=5 is not reached"):
        trainer([QuantizationAwareTraining(policy, start_epoch=5)]).fit(late, digits(3))
    trainer([]).fit(plain, digits(3))
    for key, value in plain.state_dict().items():
        assert torch.equal(value, late.state_dict()[key])


def test_the_sanity_check_does_not_touch_the_scales() -> None:
    module = Plain()
    losses = []

    class Look(L.Callback):
        def on_validation_batch_start(self, trainer: L.Trainer, pl_module: Any, *a: Any) -> None:
            quantizer = pl_module.net[3].input_quantizer
            losses.append((trainer.sanity_checking, bool(quantizer.initialized)))

        def on_sanity_check_end(self, trainer: L.Trainer, pl_module: Any) -> None:
            assert pl_module.net[3].input_quantization
            assert pl_module.net[3].weight_quantization

    callback = QuantizationAwareTraining(FOUR_BITS)
    run = trainer([callback, Look()])
    run.fit(module, digits(2), digits(1))
    assert losses == [(True, False), (False, True)]
    assert module.net[3].input_quantization
    run.validate(module, digits(1), verbose=False)
    assert callback.state_dict()["batches"] == 2  # evaluation forgets nothing of the fit


def test_an_epochs_first_batch_alone_is_looked_at_again() -> None:
    net = nn.Sequential(QuantLinear(4, 2, input_quantizer="sign"))
    again = FirstBatches(net, 0, 0, Calibration(net, 0, {}), look_again=True)
    net(torch.randn(3, 4))
    assert again.batch_done()


def test_calibration_uses_several_batches() -> None:
    scales = []
    for batches in (1, 4):
        torch.manual_seed(0)
        module = Plain(lr=0.0)
        run = QuantizationAwareTraining(FOUR_BITS, calibrate_batches=batches)
        trainer([run]).fit(module, digits(6))
        scales.append(float(module.net[3].input_quantizer.scale.detach()))
        assert not module.net[3].input_quantizer._forward_pre_hooks
    assert scales[0] != scales[1]


def test_calibration_goes_on_over_the_ends_of_epochs() -> None:
    one, two = digits(2)
    scales = []
    for loader, epochs in ((digits(2), 2), (DataLoader([one, two, one], batch_size=None), 1)):
        torch.manual_seed(0)
        module = Plain(lr=0.0)
        run = QuantizationAwareTraining(FOUR_BITS, calibrate_batches=3)
        trainer([run], max_epochs=epochs).fit(module, loader)
        scales.append(float(module.net[3].input_quantizer.scale.detach()))
    assert scales[0] == scales[1]


def test_several_processes_do_not_go_on_within_a_calibration() -> None:
    module, run = Plain(), QuantizationAwareTraining(FOUR_BITS, calibrate_batches=4)
    trainer([run]).fit(module, digits(2))
    checkpoint = {"callbacks": {run.state_key: run.state_dict()}}
    several = L.Trainer(accelerator="cpu", devices=2, logger=False, barebones=True)
    several.state.fn = TrainerFn.FITTING
    with pytest.raises(ConfigurationError, match=r"calibrate_batches=4.*after 2 batches"):
        run.on_load_checkpoint(several, module, checkpoint)
    several.state.fn = TrainerFn.TESTING
    run.on_load_checkpoint(several, module, checkpoint)


def test_a_dead_input_is_seen_in_a_compiled_network() -> None:
    module = Functional()
    inner = nn.Sequential(nn.Linear(64, 16), nn.Softplus(), nn.Linear(16, 16), nn.Linear(16, 10))
    module.net = torch.compile(inner, backend="eager")  # type: ignore[assignment]
    module.forward = module.net.forward  # type: ignore[method-assign]
    module.forward = lambda x, scale=1.0: module.net(x)  # type: ignore[method-assign]
    with pytest.raises(ConfigurationError, match=r"layer 'net.2' is constant"):
        trainer([QuantizationAwareTraining(BINARY)]).fit(module, digits(3))
    compiles = torch.compile(lambda x: x + 1, backend="eager")
    assert int(compiles(torch.ones(()))) == 2  # and eager mode is off again
