"""One callback makes any LightningModule train quantized, and leaves it as it is."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import (
    ModelPruning,
    StochasticWeightAveraging,
    WeightAveraging,
)
from omegaconf import OmegaConf
from plain_modules import BINARY, FOUR_BITS, QUIET, Configured, Plain, SetUp, digits, mlp, trainer
from torch import nn

from ste_lightning.callbacks import QuantizationAwareTraining
from ste_lightning.convert import dequantize_
from ste_lightning.errors import ConfigurationError
from ste_lightning.layers import QuantizedLayer, QuantLinear

pytestmark = QUIET


@pytest.mark.parametrize("cls", [Plain, Configured, SetUp])
@pytest.mark.parametrize("policy", [BINARY, FOUR_BITS], ids=["binary", "lsq"])
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
    four_bits = [QuantizationAwareTraining(FOUR_BITS), averaging(**kwargs)]
    trainer(four_bits, max_epochs=3).fit(Plain(), digits(2))


def test_averaging_before_the_conversion_is_refused() -> None:
    callbacks = [WeightAveraging(), QuantizationAwareTraining(FOUR_BITS)]
    with pytest.raises(ConfigurationError, match="put QuantizationAwareTraining first"):
        trainer(callbacks).fit(Plain(), digits(2))


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
    run = trainer([QuantizationAwareTraining(FOUR_BITS)], precision="bf16-mixed")
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
    run = trainer([QuantizationAwareTraining(FOUR_BITS, start_epoch=1)], strategy="ddp", devices=1)
    with pytest.raises(ConfigurationError, match="find_unused_parameters_true"):
        run.fit(Plain(), digits(2))
