"""The binary two-layer network against theory's update, and as a Lightning citizen."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch

from ste_lightning import functional as SF
from ste_lightning.data import TeacherStudent
from ste_lightning.errors import ConfigurationError
from ste_lightning.metrics import Recurrence
from ste_lightning.models import BinaryTwoLayer
from ste_lightning.models.coarse_gradient import CoarseGradient, coarse_loss, evaluate, response

DERIVATIVES = {
    "identity": np.ones_like,
    "relu": lambda a: (a > 0).astype(a.dtype),
    "clipped": lambda a: (abs(a) <= 1).astype(a.dtype),
    "clipped_relu": lambda a: ((a > 0) & (a < 1)).astype(a.dtype),
    "tanh": lambda a: 1 - np.tanh(a) ** 2,
    "triangular": lambda a: np.maximum(0, 1 - abs(a)),
}


def numpy_step(x, Z, y, v, eta, derivative):
    """Theory's update of one trial: returns the next latent weights and the loss."""
    n, N = len(x), len(Z)
    w = np.where(x >= 0, 1, -1) / np.sqrt(n, dtype=x.dtype)
    a = Z @ w
    r = (a > 0) @ v - y
    g = np.einsum("ijk,ij,i->k", Z, derivative(a) * v, r) / N
    return x - eta * g, (r @ r) / (2 * N)


def trainer(**options: Any) -> L.Trainer:
    defaults: dict[str, Any] = {
        "max_epochs": 1,
        "accelerator": "cpu",
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
    }
    return L.Trainer(**(defaults | options))


def problem(**options: Any) -> TeacherStudent:
    defaults: dict[str, Any] = {"n": 12, "m": 3, "samples": 40, "trials": 5, "steps_per_epoch": 20}
    return TeacherStudent(**(defaults | options))


class Latents(L.Callback):
    """Latent weights and loss after every step."""

    def __init__(self) -> None:
        self.weights: list[torch.Tensor] = []
        self.losses: list[torch.Tensor] = []

    def on_train_batch_end(self, trainer: Any, model: Any, *_: Any) -> None:
        self.weights.append(model.weight.detach().clone())
        self.losses.append(model.loss.clone())


@pytest.mark.parametrize("batch_size", [None, 16])
@pytest.mark.parametrize("rule", sorted(DERIVATIVES))
def test_training_is_theorys_update_step_by_step(rule: str, batch_size: int | None) -> None:
    data = problem(noise=0.3, v="gaussian", batch_size=batch_size)
    model = BinaryTwoLayer(12, 3, trials=5, rule=rule, lr=0.7)
    x = model.weight.detach().numpy().copy()
    seen = Latents()
    trainer(callbacks=[seen]).fit(model, data)
    v = data.teacher[1].numpy()
    for step, (Z, y) in enumerate(data.train_dataloader()):
        for trial in range(5):
            x[trial], loss = numpy_step(
                x[trial], Z[trial].numpy(), y[trial].numpy(), v[trial], 0.7, DERIVATIVES[rule]
            )
            assert seen.losses[step][trial].item() == pytest.approx(loss, abs=1e-6)
        np.testing.assert_allclose(seen.weights[step].numpy(), x, atol=1e-6)
        np.testing.assert_array_equal(seen.weights[step].numpy() >= 0, x >= 0)


@pytest.mark.parametrize("rule", [*sorted(DERIVATIVES), {"rule": "reste", "o": 2.0}])
@pytest.mark.parametrize("weight_rule", ["identity", "clipped"])
def test_the_fast_path_equals_plain_autograd(rule: Any, weight_rule: str) -> None:
    data = problem(noise=0.3)
    Z, y = data.train_data
    model = BinaryTwoLayer(12, 3, 5, rule, weight_rule, train_v=True, v_init="random", v="gaussian")
    with torch.no_grad():
        model.weight.mul_(15)  # some of the latent weights leave the clipped window
    ((model(Z) - y).square().sum() / (2 * Z.shape[1])).backward()
    expected = model.weight.grad.clone(), model.v.grad.clone()
    model.zero_grad()
    model._losses((Z, y)).sum().backward()
    torch.testing.assert_close(model.weight.grad, expected[0], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(model.v.grad, expected[1], atol=1e-6, rtol=1e-5)
    assert bool((model.weight.grad == 0).any()) == (weight_rule == "clipped")


@pytest.mark.parametrize("sizes", [(12, 3, 37, 6), (16, 1, 64, 9), (7, 2, 4000, 11)])
def test_remembered_gradients_are_bitwise_those_computed(sizes: tuple[int, ...]) -> None:
    n, m, samples, trials = sizes
    data = problem(n=n, m=m, samples=samples, trials=trials, noise=0.5)
    Z, y = data.train_data
    v, rule = data.teacher[1], SF.surrogate("clipped_relu")
    gradient = CoarseGradient(rule, slots=4)
    generator = torch.Generator().manual_seed(0)
    sign = data.teacher[0].sign()
    for _ in range(60):
        flips = torch.rand(trials, n, generator=generator) < 0.05
        sign = torch.where(flips, -sign, sign)
        loss, g = gradient(Z, y, sign, v)
        expected = evaluate(Z, y, sign, v, rule)
        assert torch.equal(loss, expected[0])
        assert torch.equal(g, expected[1])


@pytest.mark.parametrize("changed", ["Z", "y", "v", "another batch"])
def test_nothing_stale_is_remembered(changed: str) -> None:
    data = problem()
    Z, y = (t.clone() for t in data.train_data)
    v, rule = data.teacher[1].clone(), SF.surrogate("relu")
    sign = -data.teacher[0].sign()
    gradient = CoarseGradient(rule)
    for _ in range(3):
        gradient(Z, y, sign, v)
    if changed == "another batch":
        Z, y = Z[:, :20].clone(), y[:, :20].clone()
    else:
        {"Z": Z, "y": y, "v": v}[changed].mul_(1.5)
    for _ in range(3):
        assert torch.equal(gradient(Z, y, sign, v)[1], evaluate(Z, y, sign, v, rule)[1])


def test_labels_are_met_exactly_by_the_teachers_signs() -> None:
    data = problem(v="gaussian", samples=500, inputs="bernoulli", normalize="standardize")
    Z, y = data.train_data
    sign, v = data.teacher[0].sign(), data.teacher[1]
    rule = SF.surrogate("identity")
    loss, gradient, gradient_v = evaluate(Z, y, sign, v, rule)
    assert not loss.any()
    assert not gradient.any()
    assert not gradient_v.any()
    rows = torch.arange(3, 400, 7)
    assert not evaluate(Z[:, rows], y[:, rows], sign, v, rule)[1].any()


@pytest.mark.parametrize("batch_size", [None, 64])
def test_without_noise_the_teacher_is_absorbing(batch_size: int | None) -> None:
    data = problem(m=4, samples=256, batch_size=batch_size, steps_per_epoch=150)
    model = BinaryTwoLayer(12, 4, trials=5)
    trainer().fit(model, data)
    result = model.result()
    assert result["last_recovery"].all()
    assert result["ergodic_recovery"].all()
    assert not result["escapes"].any()
    assert not result["dead"].any()
    assert (result["first_hit"] > 0).all()
    share = (150 - result["first_hit"] + 1) / 150
    torch.testing.assert_close(result["fraction_at_teacher"], share)


def test_label_noise_makes_trials_leave_and_return() -> None:
    data = problem(n=8, m=4, samples=512, noise=0.5, trials=8, steps_per_epoch=600)
    model = BinaryTwoLayer(8, 4, trials=8, burn_in=100, trace_steps=50)
    trainer().fit(model, data)
    result = model.result()
    assert result["escapes"].min() >= 10
    assert result["ergodic_recovery"].all()
    assert result["hamming_trace"].shape == (50, 8)
    assert torch.equal(result["returns"], result["return_times"].sum(1))
    assert 0.5 < result["fraction_at_teacher"].mean() < 0.9


def test_a_trial_is_the_same_whatever_runs_beside_it() -> None:
    latents = []
    for trials in (2, 6):
        model = BinaryTwoLayer(12, 3, trials, init_scale=0.1)
        trainer().fit(model, problem(trials=trials, noise=0.3))
        latents.append(model.weight[:2].detach())
    torch.testing.assert_close(latents[0], latents[1], atol=1e-6, rtol=0)


def test_trials_that_died_are_named() -> None:
    data = problem(n=16, m=2, samples=200, inputs={"name": "gaussian", "mean": 5.0})
    model = BinaryTwoLayer(16, 2, trials=5)
    with torch.no_grad():
        model.weight.copy_(-model.weight.abs())  # every pre-activation is negative
    seen = Latents()
    run = trainer(callbacks=[seen], log_every_n_steps=1)
    with pytest.warns(UserWarning, match=r"of 5 trials are dead \(trial \d") as warned:
        run.fit(model, data)
    result = model.result()
    dead = result["dead"].nonzero().flatten().tolist()
    assert dead
    named = [str(w.message) for w in warned if "are dead" in str(w.message)]
    assert f"{len(dead)} of 5 trials are dead (trial {', '.join(map(str, dead))})" in named[0]
    assert (result["loss"][result["dead"]] > 0).all()
    assert torch.equal(seen.weights[0][result["dead"]], seen.weights[-1][result["dead"]])
    assert run.callback_metrics["dead"] == result["dead"].float().mean()


def test_momentum_can_carry_a_trial_away_from_the_teacher() -> None:
    """Without momentum the teacher is absorbing; with it some trials leave."""
    escapes = {}
    for momentum in (0.0, 0.95):
        model = BinaryTwoLayer(16, 4, trials=16, momentum=momentum)
        trainer().fit(model, problem(n=16, m=4, samples=256, trials=16, steps_per_epoch=100))
        escapes[momentum] = int(model.result()["escapes"].sum())
    assert escapes[0.0] == 0
    assert escapes[0.95] > 0


@pytest.mark.parametrize(
    ("optimizer", "cls"),
    [("adam", torch.optim.Adam), ({"name": "sgd", "lr": 0.5, "momentum": 0.5}, torch.optim.SGD)],
)
def test_any_optimizer(optimizer: Any, cls: type) -> None:
    model = BinaryTwoLayer(12, 3, 5, optimizer=optimizer, lr=0.01, train_v=True, lr_v=0.002)
    made = model.configure_optimizers()
    assert isinstance(made, cls)
    assert made.param_groups[0]["lr"] == (0.01 if cls is torch.optim.Adam else 0.5)
    assert made.param_groups[1]["lr"] == 0.002
    trainer(gradient_clip_val=0.5).fit(model, problem())


def test_v_trained_from_zero_finds_the_teacher() -> None:
    data = problem(n=16, m=4, samples=512, steps_per_epoch=500)
    model = BinaryTwoLayer(16, 4, 5, train_v=True, v_init="zeros", lr_v=0.2)
    trainer().fit(model, data)
    assert model.result()["last_recovery"].all()
    torch.testing.assert_close(model.v.detach(), data.teacher[1], atol=0.02, rtol=0)
    trained = model.v.detach().clone()
    run = trainer()
    run.test(model, data, verbose=False)
    assert torch.equal(model.v, trained)
    assert run.callback_metrics["test_recovery"] == 1
    assert run.callback_metrics["test_loss"] < 1e-3


def test_the_second_layer_starts_as_asked() -> None:
    data = problem(v="gaussian")
    copied = BinaryTwoLayer(12, 3, 5)
    copied.set_teacher(*data.teacher)
    assert torch.equal(copied.v, data.teacher[1])
    random = BinaryTwoLayer(12, 3, 5, v="gaussian", v_init="random")
    random.set_teacher(*data.teacher)
    torch.testing.assert_close(random.v.norm(dim=1), torch.ones(5))
    assert len(random.v.unique()) == 15
    assert not BinaryTwoLayer(12, 3, v_init="zeros").v.any()


class InterruptionError(Exception):
    pass


class SaveThenStop(L.Callback):
    """Save where ModelCheckpoint does, after 25 steps; die after 40."""

    def __init__(self, path: Any) -> None:
        self.path = path

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == 25:
            trainer.save_checkpoint(self.path)
        if trainer.global_step == 40:
            raise InterruptionError


@pytest.mark.parametrize("options", [{}, {"batch_size": 16}, {"train_v": True}])
def test_resuming_in_mid_epoch_changes_nothing(tmp_path: Any, options: dict[str, Any]) -> None:
    train_v = options.get("train_v", False)
    sizes = {"noise": 0.5, "steps_per_epoch": 60, "batch_size": options.get("batch_size")}

    def fresh() -> BinaryTwoLayer:
        return BinaryTwoLayer(12, 3, 5, train_v=train_v, trace_steps=40, momentum=0.5)

    whole = fresh()
    trainer().fit(whole, problem(**sizes))

    checkpoint = tmp_path / "step25.ckpt"
    with pytest.raises(InterruptionError):
        trainer(callbacks=[SaveThenStop(checkpoint)]).fit(fresh(), problem(**sizes))
    resumed = fresh()
    trainer().fit(resumed, problem(**sizes), ckpt_path=checkpoint, weights_only=True)
    assert torch.equal(resumed.weight, whole.weight)
    for name, value in whole.result().items():
        torch.testing.assert_close(resumed.result()[name], value, equal_nan=True, msg=name)

    loaded = BinaryTwoLayer.load_from_checkpoint(checkpoint, weights_only=True)
    assert loaded.result()["hamming_trace"].shape == (25, 5)
    assert torch.equal(loaded.teacher, whole.teacher)


def test_hyperparameters_are_plain_and_rebuild_the_model(tmp_path: Any) -> None:
    rule = SF.surrogate("clipped_relu", upper=0.5)
    model = BinaryTwoLayer(12, 3, 5, rule=rule, optimizer={"name": "sgd"})
    assert model.hparams["rule"] == {"rule": "clipped_relu", "upper": 0.5}
    run = trainer()
    run.fit(model, problem())
    run.save_checkpoint(tmp_path / "model.ckpt")
    loaded = BinaryTwoLayer.load_from_checkpoint(tmp_path / "model.ckpt", weights_only=True)
    assert loaded.rule == rule
    assert torch.equal(loaded.weight, model.weight)


def test_a_custom_rule_is_given_again_on_loading(tmp_path: Any) -> None:
    rule = SF.surrogate("custom", derivative=torch.ones_like)
    model = BinaryTwoLayer(12, 3, 5, rule=rule)
    assert "rule" not in model.hparams
    run = trainer()
    run.fit(model, problem())
    run.save_checkpoint(tmp_path / "model.ckpt")
    path = tmp_path / "model.ckpt"
    loaded = BinaryTwoLayer.load_from_checkpoint(path, rule=rule, weights_only=True)
    assert loaded.rule is rule


def test_copies_and_pickles_after_training_without_the_data() -> None:
    model = BinaryTwoLayer(12, 3, 5)
    data = problem(samples=5000)
    trainer().fit(model, data)
    model.trainer = None
    Z, _ = data.train_data
    assert len(pickle.dumps(model)) < Z.numel()
    assert torch.equal(copy.deepcopy(model)(Z), model(Z))


def test_logged_metrics_are_those_of_the_result() -> None:
    model = BinaryTwoLayer(12, 3, 5)
    run = trainer(log_every_n_steps=5)
    run.fit(model, problem(noise=0.3, steps_per_epoch=23))
    logged, result = run.callback_metrics, model.result()
    assert logged["recovery"] == result["last_recovery"].float().mean()
    assert logged["hamming"] == result["hamming"].float().mean()
    assert logged["loss"] == result["loss"].mean()
    assert logged["escapes"] == result["escapes"].float().mean()
    names = {"ergodic_recovery", "at_teacher", "returns", "return_time", "flip_ratio", "dead"}
    assert names <= set(logged)
    assert all(torch.isfinite(value) for value in logged.values())


@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true"])
def test_other_precisions(precision: str) -> None:
    data = problem(m=4, samples=256, steps_per_epoch=60)
    model = BinaryTwoLayer(12, 4, trials=5)
    trainer(precision=precision).fit(model, data)
    assert model.result()["last_recovery"].all()


def test_recurrence_counts_are_those_of_the_trace() -> None:
    data = problem(n=8, m=4, samples=256, noise=0.7, steps_per_epoch=200)
    model = BinaryTwoLayer(8, 4, trials=5, trace_steps=200)
    trainer().fit(model, data)
    result = model.result()
    replay = Recurrence(5)
    for distance in result["hamming_trace"]:
        replay.update(distance)
    for name, key in (("fraction", "fraction_at_teacher"), ("escapes", "escapes")):
        assert torch.equal(replay.compute()[name], result[key])


def test_responses_are_those_of_forward() -> None:
    data = problem(v="gaussian")
    Z, _ = data.train_data
    model = BinaryTwoLayer(12, 3, 5)
    model.set_teacher(*data.teacher)
    sign = SF.hard_sign(model.weight.detach())
    torch.testing.assert_close(response(Z, sign, model.v), model(Z).detach())
    losses = coarse_loss(sign, model.v, Z, model(Z).detach(), CoarseGradient(model.rule))
    assert losses.max() < 1e-12


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "n=0"),
        ({"m": -1}, "m=-1"),
        ({"trials": 0}, "trials=0"),
        ({"lr": 0.0}, "lr=0.0"),
        ({"init_scale": 0.0}, "init_scale"),
        ({"seed": -1}, "seed=-1"),
        ({"rule": "rleu"}, "'relu'"),
        ({"rule": {"rule": "clipped", "widht": 2}}, "'width'"),
        ({"v": "one"}, "'ones'"),
        ({"v_init": "zero"}, "'zeros'"),
    ],
)
def test_wrong_settings_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        BinaryTwoLayer(**({"n": 4, "m": 2} | options))


def test_data_of_another_shape_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"w_star\.shape"):
        trainer().fit(BinaryTwoLayer(11, 3, 5), problem())
    model = BinaryTwoLayer(12, 3, 5)
    model.set_teacher(*problem().teacher)
    with pytest.raises(ConfigurationError, match=r"Z.shape=\(4, 40, 3, 12\)"):
        trainer().fit(model, problem(trials=4).train_dataloader())


def test_training_without_a_teacher_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="TeacherStudent"):
        trainer().fit(BinaryTwoLayer(12, 3, 5), problem().train_dataloader())


def test_the_start_does_not_repeat_the_data():
    data = TeacherStudent(n=4, m=4, samples=2, v="gaussian", seed=0)
    model = BinaryTwoLayer(n=4, m=4, v="gaussian", v_init="random", init_scale=1.0, seed=0)
    first = data.inputs[0, 0, 0]
    assert not torch.allclose(model.v[0], torch.nn.functional.normalize(first, dim=0))
    assert not torch.allclose(model.weight[0], first)
