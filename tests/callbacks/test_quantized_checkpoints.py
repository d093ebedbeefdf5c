"""Checkpoints of quantization-aware training: resumed, loaded, tested, compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from plain_modules import BINARY, FOUR_BITS, LSQ, QUIET, Configured, Plain, digits, trainer
from torch import nn

from ste_lightning.callbacks import QuantizationAwareTraining, load_quantized
from ste_lightning.convert import quantize_
from ste_lightning.errors import ConfigurationError
from ste_lightning.quantizers import Sign

pytestmark = QUIET


def states(module: nn.Module) -> dict[str, Any]:
    return {k: v.clone() for k, v in module.state_dict().items()}


@pytest.mark.parametrize("cls", [Plain, Configured])
@pytest.mark.parametrize(
    ("policy", "options"),
    [
        ([{"match": "*", "weight": {"rule": "ede", "schedule": "ede"}, "input": "sign"}], {}),
        (FOUR_BITS, {"calibrate_batches": 3}),
        (FOUR_BITS, {"start_epoch": 2}),
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
    run = trainer([QuantizationAwareTraining(FOUR_BITS)], max_epochs=2)
    run.fit(module, digits(4), digits(1))
    path = str(tmp_path / "a.ckpt")
    run.save_checkpoint(path)
    before = states(module)
    (metrics,) = run.test(module, digits(4), verbose=False)
    (again,) = run.test(module, digits(4), ckpt_path=path, verbose=False)
    fresh = trainer([QuantizationAwareTraining(FOUR_BITS)])
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
