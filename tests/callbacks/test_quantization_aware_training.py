"""One callback makes any LightningModule train quantized, and leaves it as it is."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import (
    ModelPruning,
    StochasticWeightAveraging,
    WeightAveraging,
)
from lightning.pytorch.trainer.states import TrainerFn
from omegaconf import OmegaConf
from plain_modules import Configured, Plain, SetUp, digits, mlp, trainer
from torch import nn
from torch.utils.data import DataLoader

from ste_lightning.callbacks import QuantizationAwareTraining, load_quantized
from ste_lightning.callbacks.first_batches import FirstBatches
from ste_lightning.convert import Calibration, dead_weights, dequantize_, quantize_
from ste_lightning.errors import ConfigurationError
from ste_lightning.layers import QuantizedLayer, QuantLinear
from ste_lightning.quantizers import Sign

BINARY = [{"match": "*", "weight": "sign", "input": "sign"}]
LSQ = {"map": "lsq", "bits": 4}
LEARNED = [{"match": "*", "weight": LSQ, "input": {**LSQ, "signed": False}}]

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers",
    "ignore:.*`isinstance.treespec, LeafSpec.` is deprecated",
    "ignore:.*smaller than the logging interval",
    "ignore:You defined a .validation_step. but have no",
    "ignore:You're resuming from a checkpoint that ended before the epoch",
    "ignore:Checkpoint directory .* exists and is not empty",
)


@pytest.mark.parametrize("cls", [Plain, Configured, SetUp])
@pytest.mark.parametrize("policy", [BINARY, LEARNED], ids=["binary", "lsq"])
def test_layers_are_converted_wherever_they_are_made(cls: Any, policy: Any) -> None:
    module, callback = cls(), QuantizationAwareTraining(policy)
    run = trainer([callback])
    run.fit(module, digits(4), digits(1))
    assert isinstance(module.net[3], QuantLinear)
    assert isinstance(module.net[6], QuantLinear)
    assert type(module.net[0]) is type(module.net[9]) is nn.Linear
    owned = {id(p) for g in run.optimizers[0].param_groups for p in g["params"]}
    assert owned == {id(p) for p in module.parameters()}  # learned scales too
    assert callback.report is not None
    assert callback.report.quantized == ["net.3", "net.6"]
    assert "configure_model" not in vars(module)


def test_the_loss_falls() -> None:
    torch.manual_seed(0)
    module = Plain(lr=0.05)
    loader = digits(20, 64)
    run = trainer([QuantizationAwareTraining(BINARY)], max_epochs=1)
    run.validate(module, loader, verbose=False)
    before = float(run.callback_metrics["val_loss"])
    run = trainer([QuantizationAwareTraining(BINARY)], max_epochs=4)
    run.fit(module, loader)
    run.validate(module, loader, verbose=False)
    assert float(run.callback_metrics["val_loss"]) < 0.5 * before


def states(module: nn.Module) -> dict[str, Any]:
    return {k: v.clone() for k, v in module.state_dict().items()}


@pytest.mark.parametrize("cls", [Plain, Configured])
@pytest.mark.parametrize(
    ("policy", "options"),
    [
        ([{"match": "*", "weight": {"rule": "ede", "schedule": "ede"}, "input": "sign"}], {}),
        (LEARNED, {"calibrate_batches": 3}),
        (LEARNED, {"start_epoch": 2}),
        ([{"match": "*", "weight": {"map": "uniform", "bits": 4}, "input": "pact"}], {}),
    ],
    ids=["ede", "lsq", "late", "uniform"],
)
def test_a_resumed_run_is_the_uninterrupted_run_to_the_bit(
    tmp_path: Path, cls: Any, policy: Any, options: dict[str, Any]
) -> None:
    def fit(epochs: int, path: str | None = None, **kwargs: Any) -> Any:
        torch.manual_seed(1)
        module = cls()
        run = trainer([QuantizationAwareTraining(policy, **options)], max_epochs=4, **kwargs)
        run.fit(module, digits(5), ckpt_path=path)
        return module, run

    whole, _ = fit(4)
    torch.manual_seed(1)
    half = cls()
    callback = QuantizationAwareTraining(policy, **options)

    class Stop(L.Callback):  # in the middle of an epoch's end, the schedule's length unchanged
        def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            if trainer.current_epoch == 1:
                trainer.save_checkpoint(tmp_path / "half.ckpt")

    trainer([callback, Stop()], max_epochs=4).fit(half, digits(5))
    resumed, _ = fit(4, str(tmp_path / "half.ckpt"))
    for key, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key


def test_resume_in_the_middle_of_an_epoch(tmp_path: Path) -> None:
    spec = {"rule": "reste", "schedule": "reste"}
    policy = [{"match": "*", "weight": spec, "input": "sign"}]

    class Save(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
            if trainer.global_step == 7:
                trainer.save_checkpoint(tmp_path / "step7.ckpt")

    torch.manual_seed(0)
    whole = Plain()
    loader = digits(5)
    trainer([QuantizationAwareTraining(policy), Save()], max_epochs=2).fit(whole, loader)
    torch.manual_seed(5)
    resumed = Plain()
    run = trainer([QuantizationAwareTraining(policy)], max_epochs=2)
    o = resumed.net
    seen: list[int] = []

    class Rest(L.Callback):
        def on_train_batch_start(
            self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int
        ) -> None:
            seen.append(batch_idx)

    # a plain loader starts again from its first batch; give the rest of the epoch
    run.callbacks.append(Rest())  # type: ignore[attr-defined]
    rest = digits(5)
    x, y = rest.dataset.tensors  # type: ignore[attr-defined]
    order = torch.cat([torch.arange(64, 160), torch.arange(64)])
    rest.dataset.tensors = (x[order], y[order])  # type: ignore[attr-defined]
    run.fit(resumed, rest, ckpt_path=str(tmp_path / "step7.ckpt"))
    assert seen == [2, 3, 4]
    assert torch.equal(o[3].weight_quantizer.rule_o, whole.net[3].weight_quantizer.rule_o)
    for key, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key


def test_test_after_fit_and_from_a_checkpoint(tmp_path: Path) -> None:
    module = Plain()
    run = trainer([QuantizationAwareTraining(LEARNED)], max_epochs=2)
    run.fit(module, digits(4), digits(1))
    path = str(tmp_path / "a.ckpt")
    run.save_checkpoint(path)
    before = states(module)
    (metrics,) = run.test(module, digits(4), verbose=False)
    (again,) = run.test(module, digits(4), ckpt_path=path, verbose=False)
    fresh = trainer([QuantizationAwareTraining(LEARNED)])
    (other,) = fresh.test(Plain(), digits(4), ckpt_path=path, verbose=False)
    loaded = load_quantized(Plain, path)
    (bare,) = trainer([]).test(loaded, digits(4), verbose=False)
    assert metrics == again == other == bare
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
    assert loaded.hparams.lr == 1e-2


def test_float_checkpoints_load_and_quantized_ones_load_as_float(tmp_path: Path) -> None:
    float_module = Plain()
    run = trainer([])
    run.fit(float_module, digits(2))
    run.save_checkpoint(tmp_path / "float.ckpt")
    module = Plain()
    run = trainer([QuantizationAwareTraining(BINARY)])
    run.fit(module, digits(2), ckpt_path=None)
    module.load_state_dict(torch.load(tmp_path / "float.ckpt", weights_only=True)["state_dict"])
    run.save_checkpoint(tmp_path / "binary.ckpt")
    loaded = Plain.load_from_checkpoint(tmp_path / "binary.ckpt")  # strictly: the same keys
    assert type(loaded.net[3]) is nn.Linear
    assert torch.equal(loaded.net[3].weight, float_module.net[3].weight)


class Own(nn.Module):
    """A quantizer that is registered nowhere."""

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        self.width = width

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + (x.clamp(-self.width, self.width).round() - x).detach()


def test_a_checkpoint_gives_the_network_that_was_trained(tmp_path: Path) -> None:
    module = Plain()
    policy = [
        {"match": "*", "weight": Sign("approx"), "input": {**LSQ, "signed": False}},
        {"match": "net.6", "weight": {"map": "sign", "schedule": "delay"}, "relu": "identity",
         "input": "sign"},
    ]  # fmt: skip
    policy[1]["weight"] = {"rule": "ede", "schedule": {"ede": {"start": 0.5}}}
    run = trainer([QuantizationAwareTraining(policy)])
    run.fit(module, digits(2))
    x = torch.randn(3, 64)
    for weights_only in (False, True):
        path = tmp_path / f"{weights_only}.ckpt"
        run.save_checkpoint(path, weights_only=weights_only)
        loaded = load_quantized(Plain, path)
        assert isinstance(loaded.net[5], nn.Identity)
        assert repr(loaded) == repr(module)
        assert torch.equal(loaded.eval()(x), module.eval()(x))
        for wrong in (BINARY, [policy[0]]):
            with pytest.raises(ConfigurationError, match="cannot be used with"):
                load_quantized(Plain, path, policy=wrong)
        again = load_quantized(Plain, path, policy=policy)
        assert torch.equal(again.eval()(x), module(x))


def test_loading_needs_a_policy_where_none_is_known(tmp_path: Path) -> None:
    module = Plain()
    rules = [{"match": "*", "weight": Own(), "input": {**LSQ, "signed": False}}]
    run = trainer([QuantizationAwareTraining(rules, watch_batches=0)])
    run.fit(module, digits(2))
    run.save_checkpoint(tmp_path / "own.ckpt")
    with pytest.raises(ConfigurationError, match=r"Own.* not registered quantizers; pass policy="):
        load_quantized(Plain, tmp_path / "own.ckpt")
    loaded = load_quantized(Plain, tmp_path / "own.ckpt", policy=rules)
    assert torch.equal(loaded.eval()(torch.ones(1, 64)), module.eval()(torch.ones(1, 64)))
    wider = [{**rules[0], "weight": Own(2.0)}]
    with pytest.raises(ConfigurationError, match=r"weight width: 1.0 there, 2.0 here"):
        load_quantized(Plain, tmp_path / "own.ckpt", policy=wider)
    trainer([]).fit(float_module := Plain(), digits(1))
    float_module.trainer.save_checkpoint(tmp_path / "float.ckpt")
    with pytest.raises(ConfigurationError, match="records no policy"):
        load_quantized(Plain, tmp_path / "float.ckpt")


BITS8 = {"map": "lsq", "bits": 8, "signed": False}


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"bits": 2}, "bits: 8 there, 2 here"),
        ({"signed": True}, "signed: False there, True here"),
        ({"rule": "tanh"}, "rule: identity there, tanh here"),
        ({"map": "lsq_plus"}, "map: lsq there, lsq_plus here"),
        ({"schedule": {"strength": "linear"}}, "schedule: float there"),
    ],
)
def test_a_checkpoint_of_another_policy_is_refused_with_the_difference(
    tmp_path: Path, change: dict[str, Any], difference: str
) -> None:
    make = lambda spec: QuantizationAwareTraining([{"match": "*", "weight": "sign", "input": spec}])  # noqa: E731
    run = trainer([make(BITS8)])
    run.fit(Plain(), digits(2))
    run.save_checkpoint(tmp_path / "a.ckpt")
    other = make({**BITS8, **change})
    path = tmp_path / "a.ckpt"
    for go in (
        lambda: trainer([other], max_epochs=2).fit(Plain(), digits(2), ckpt_path=path),
        lambda: trainer([other]).test(Plain(), digits(2), ckpt_path=path),
        lambda: quantized(other).load_state_dict(run.lightning_module.state_dict()),
    ):
        with pytest.raises(ConfigurationError, match=rf"layer 'net.3': .*{difference}"):
            go()


def quantized(callback: QuantizationAwareTraining) -> Plain:
    module = Plain()
    quantize_(module, callback.policy)
    return module


@pytest.mark.parametrize("spec", [{"map": "lsq", "bits": 8}, {"map": "lsq", "bits": 2}, "sign"])
def test_checkpoints_of_earlier_versions_load_and_are_compared(tmp_path: Path, spec: Any) -> None:
    policy = [{"match": "*", "weight": spec, "input": None}]
    module = Plain()
    run = trainer([QuantizationAwareTraining(policy)])
    run.fit(module, digits(2))
    run.save_checkpoint(tmp_path / "new.ckpt")
    saved = torch.load(tmp_path / "new.ckpt", weights_only=True)
    state = saved["callbacks"]["QuantizationAwareTraining"]
    kind = "sign/clipped" if spec == "sign" else "lsq/identity"
    state["layers"] = {name: [kind, "float"] for name in ("net.3", "net.6")}
    saved["state_dict"] = dict(saved["state_dict"])  # without metadata
    torch.save(saved, tmp_path / "old.ckpt")
    loaded = load_quantized(Plain, tmp_path / "old.ckpt")
    assert repr(loaded) == repr(module)
    again = trainer([QuantizationAwareTraining(policy)], max_epochs=2)
    again.fit(Plain(), digits(2), ckpt_path=tmp_path / "old.ckpt")
    for other in ({"map": "lsq", "bits": 4}, "ternary"):
        changed = QuantizationAwareTraining([{**policy[0], "weight": other}])
        run = trainer([changed], max_epochs=2)
        with pytest.raises((ConfigurationError, RuntimeError, UserWarning)):
            run.fit(Plain(), digits(2), ckpt_path=tmp_path / "old.ckpt")


def test_a_second_fit_with_another_policy_is_refused() -> None:
    module = Plain()
    trainer([QuantizationAwareTraining(BINARY)]).fit(module, digits(2))
    trainer([QuantizationAwareTraining(BINARY)]).fit(module, digits(2))
    other = [{"match": "*", "weight": {"map": "sign", "scale": "channel_mean"}, "input": "sign"}]
    with pytest.raises(ConfigurationError, match="none in the model, channel_mean in the policy"):
        trainer([QuantizationAwareTraining(other)]).fit(module, digits(2))
    dequantize_(module)
    trainer([QuantizationAwareTraining(other)]).fit(module, digits(2))
    assert module.net[3].weight_quantizer.scale == "channel_mean"


def test_the_model_after_fit_is_the_model_that_was_trained() -> None:
    module = Plain()
    forward = module.forward.__func__
    run = trainer([QuantizationAwareTraining(BINARY)])
    run.fit(module, digits(2))
    assert module.forward.__func__ is forward
    assert "forward" not in vars(module)
    assert isinstance(module.net[3], QuantLinear)
    module(torch.ones(2, 64), scale=2.0)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in module.modules())
    assert sorted(module.state_dict()) == sorted(Plain().state_dict())
    dequantize_(module)
    assert not any(isinstance(m, QuantizedLayer) for m in module.modules())


def test_pickling() -> None:
    callback = pickle.loads(pickle.dumps(QuantizationAwareTraining(BINARY, watch_batches=1)))
    module = Plain()
    trainer([callback]).fit(module, digits(2))
    module.trainer = None  # type: ignore[assignment]
    other = pickle.loads(pickle.dumps(module))
    x = torch.randn(3, 64)
    assert torch.equal(other.eval()(x), module.eval()(x))
    pickle.dumps(callback)


@pytest.mark.parametrize("pruning_first", [True, False])
def test_pruning_together(pruning_first: bool) -> None:
    module = Plain()
    pruning = ModelPruning("l1_unstructured", amount=0.5, make_pruning_permanent=True)
    callbacks: list[Any] = [QuantizationAwareTraining(BINARY), pruning]
    with pytest.warns(UserWarning, match=r"of the weights of layer 'net.\d' are zero") as said:
        trainer(callbacks[::-1] if pruning_first else callbacks, max_epochs=2).fit(
            module, digits(3)
        )
    assert sum("(pruned?)" in str(w.message) for w in said) == 2  # once for each layer
    weight = module.net[3].weight
    assert isinstance(weight, nn.Parameter)  # permanent again
    total = sum(m.weight.numel() for m in module.modules() if hasattr(m, "weight"))
    zeros = sum(int((m.weight == 0).sum()) for m in module.modules() if hasattr(m, "weight"))
    assert zeros / total > 0.4
    assert isinstance(module.net[3], QuantLinear)


@pytest.mark.parametrize("averaging", [WeightAveraging, StochasticWeightAveraging])
def test_averaging_of_binary_weights_warns(averaging: Any) -> None:
    kwargs = {"swa_lrs": 1e-2} if averaging is StochasticWeightAveraging else {}
    callbacks = [QuantizationAwareTraining(BINARY), averaging(**kwargs)]
    with pytest.warns(UserWarning, match="averages the latent weights of 2 layers"):
        trainer(callbacks, max_epochs=3).fit(Plain(), digits(2))
    four_bits = [QuantizationAwareTraining(LEARNED), averaging(**kwargs)]
    trainer(four_bits, max_epochs=3).fit(Plain(), digits(2))


def test_averaging_before_the_conversion_is_refused() -> None:
    callbacks = [WeightAveraging(), QuantizationAwareTraining(LEARNED)]
    with pytest.raises(ConfigurationError, match="put QuantizationAwareTraining first"):
        trainer(callbacks).fit(Plain(), digits(2))


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

    callback = QuantizationAwareTraining(LEARNED)
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
        run = QuantizationAwareTraining(LEARNED, calibrate_batches=batches)
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
        run = QuantizationAwareTraining(LEARNED, calibrate_batches=3)
        trainer([run], max_epochs=epochs).fit(module, loader)
        scales.append(float(module.net[3].input_quantizer.scale.detach()))
    assert scales[0] == scales[1]


def test_several_processes_do_not_go_on_within_a_calibration() -> None:
    module, run = Plain(), QuantizationAwareTraining(LEARNED, calibrate_batches=4)
    trainer([run]).fit(module, digits(2))
    checkpoint = {"callbacks": {run.state_key: run.state_dict()}}
    several = L.Trainer(accelerator="cpu", devices=2, logger=False, barebones=True)
    several.state.fn = TrainerFn.FITTING
    with pytest.raises(ConfigurationError, match=r"calibrate_batches=4.*after 2 batches"):
        run.on_load_checkpoint(several, module, checkpoint)
    several.state.fn = TrainerFn.TESTING
    run.on_load_checkpoint(several, module, checkpoint)


def test_batch_norm_is_estimated_anew_at_the_end() -> None:
    torch.manual_seed(0)
    module = Plain(lr=0.3)
    callback = QuantizationAwareTraining(BINARY, reestimate_batch_norm=4)
    trainer([callback], max_epochs=2).fit(module, digits(4))
    module.eval()
    x = torch.cat([batch[0] for batch in digits(4)])
    first = module.net[0](x)
    torch.testing.assert_close(module.net[1].running_mean, first.mean(0))
    assert module.net[1].momentum == 0.1
    assert "log" not in vars(module)


def test_schedules_go_to_every_quantizer_that_takes_them() -> None:
    policy = [{"match": "*", "weight": {"rule": "reste"}, "input": "sign"}]
    callback = QuantizationAwareTraining(policy, schedule="reste")
    module = Plain()
    trainer([callback], max_epochs=2).fit(module, digits(3))
    # the last step began at progress 5/6
    assert 2.0 < float(module.net[3].weight_quantizer.rule_o) < 3.0
    assert not module.net[3].input_quantizer.schedules
    with pytest.raises(ConfigurationError, match="no quantizer of the policy can take it"):
        QuantizationAwareTraining(BINARY, schedule="reste")
    with pytest.raises(ConfigurationError, match="set max_epochs"):
        trainer([callback], max_epochs=-1, limit_train_batches=2).fit(Plain(), digits(3))


class Manual(Plain):
    """Manual optimization with two optimizers."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        for optimizer in self.optimizers():  # type: ignore[union-attr]
            optimizer.zero_grad()
            self.manual_backward(super().training_step(batch, batch_idx))
            optimizer.step()

    def configure_optimizers(self) -> Any:
        inner = list(self.net[3].parameters())
        outer = [p for p in self.parameters() if not any(p is q for q in inner)]
        return [torch.optim.Adam(inner, 1e-3), torch.optim.SGD(outer, 1e-2)]


def test_manual_optimization_and_its_schedules() -> None:
    policy = [{"match": "*", "weight": {"rule": "ede", "schedule": "ede"}, "input": "sign"}]
    module = Manual()
    trainer([QuantizationAwareTraining(policy)], max_epochs=2).fit(module, digits(3))
    expected = 0.1 * 100 ** (5 / 6)
    assert float(module.net[3].weight_quantizer.rule_t) == pytest.approx(expected)
    with pytest.raises(ConfigurationError, match="manual optimization"):
        trainer([QuantizationAwareTraining(policy, reestimate_batch_norm=1)]).fit(
            Manual(), digits(2)
        )


def test_bf16_mixed_keeps_float_latents() -> None:
    module = Plain()
    run = trainer([QuantizationAwareTraining(LEARNED)], precision="bf16-mixed")
    run.fit(module, digits(3))
    assert module.net[3].weight.dtype == torch.float32
    assert module.net[3].weight.grad is None or module.net[3].weight.grad.dtype == torch.float32
    assert bool(torch.isfinite(module.net[3].weight).all())


class Compiled(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.net = torch.compile(mlp(), backend="eager", fullgraph=True)  # type: ignore[assignment]


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_compiled_inner_networks() -> None:
    module = Compiled()
    policy = [*BINARY, {"match": "net.6", "weight": "sign", "input": "sign"}]
    callback = QuantizationAwareTraining(policy)
    trainer([callback], max_epochs=2).fit(module, digits(4), digits(1))
    assert callback.report is not None
    assert callback.report.quantized == ["net.3", "net.6"]
    assert isinstance(module.net._orig_mod[2], nn.Hardtanh)
    assert "net._orig_mod.3.weight" in module.state_dict()
    inplace = Plain()
    inplace.net.compile(backend="eager")
    trainer([QuantizationAwareTraining(BINARY)]).fit(inplace, digits(4))


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


def test_policies_from_hydra_and_of_one_rule() -> None:
    policy = OmegaConf.create([{"match": "*", "weight": {"map": "sign"}, "input": "sign"}])
    callback = QuantizationAwareTraining(policy)
    trainer([callback]).fit(Plain(), digits(2))
    assert callback.state_dict()["policy"] == [
        {"match": "*", "weight": {"map": "sign"}, "input": "sign"}
    ]
    QuantizationAwareTraining({"weight": "sign"})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"policy": []}, "give a list of rules"),
        ({"policy": BINARY, "start_epoch": -1}, "start_epoch=-1"),
        ({"policy": BINARY, "calibrate_batches": 1.5}, "calibrate_batches=1.5"),
        ({"policy": BINARY, "calibrate_batches": True}, "calibrate_batches=True"),
        ({"policy": BINARY, "schedule": 5}, "schedule=5 cannot be used"),
        ({"policy": BINARY, "schedule": {"strength": 5}}, "give a name, or {PARAMETER"),
        ({"policy": [{"match": "*", "weight": "sgin"}]}, "Did you mean 'sign'"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        QuantizationAwareTraining(**arguments)


def test_a_policy_that_reaches_nothing_fails_at_setup() -> None:
    with pytest.raises(ConfigurationError, match=r"unknown layer 'encoder.*net.0, net.3"):
        trainer([QuantizationAwareTraining([{"match": "encoder.*", "weight": "sign"}])]).fit(
            Plain(), digits(2)
        )


def test_learned_scales_and_a_late_start_under_ddp_are_refused() -> None:
    run = trainer([QuantizationAwareTraining(LEARNED, start_epoch=1)], strategy="ddp", devices=1)
    with pytest.raises(ConfigurationError, match="find_unused_parameters_true"):
        run.fit(Plain(), digits(2))
