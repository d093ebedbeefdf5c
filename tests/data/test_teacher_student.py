"""Teacher-student problems: labels, reproducibility, settings that are refused."""

from __future__ import annotations

from typing import Any

import lightning as L
import pytest
import torch

from ste_lightning.data import TeacherStudent
from ste_lightning.errors import ConfigurationError
from ste_lightning.models import BinaryTwoLayer
from ste_lightning.models.coarse_gradient import response


def problem(**options: Any) -> TeacherStudent:
    return TeacherStudent(**({"n": 8, "m": 2, "samples": 50, "trials": 3} | options))


def test_rows_of_a_data_set_are_used_once_each() -> None:
    table = torch.arange(80.0).view(20, 4)
    data = TeacherStudent(n=4, m=2, samples=10, trials=2, inputs=table)
    Z, _ = data.train_data
    for trial in range(2):
        assert sorted(Z[trial].flatten().tolist()) == list(range(80))
    assert not torch.equal(Z[0], Z[1])


def test_digits_have_48_active_pixels() -> None:
    Z, _ = TeacherStudent(n=48, m=1, samples=1797, inputs="digits").train_data
    assert Z.max() == 16
    assert ((Z[0, :, 0] > 0).float().mean(0) > 0.1).all()
    with pytest.raises(ConfigurationError, match="use n=48"):
        problem(inputs="digits").setup("fit")
    with pytest.raises(ConfigurationError, match="at most 898"):
        problem(inputs="digits", n=48, samples=1000).setup("fit")


def test_other_real_rows() -> None:
    every = {"name": "digits", "active": 0.0}
    for inputs, n, rows in ((every, 61, 1797), ("breast_cancer", 30, 569), ("wine", 13, 178)):
        Z = TeacherStudent(n=n, m=1, samples=rows, inputs=inputs).inputs
        assert (Z[0, :, 0].std(0) > 0).all()


def test_labels_are_the_teachers_response_to_normalized_inputs() -> None:
    data = problem(v="gaussian", inputs="exponential", normalize="standardize")
    Z, y = data.train_data
    w, v = data.teacher
    torch.testing.assert_close(w.abs(), torch.full_like(w, 8**-0.5))
    torch.testing.assert_close(v.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(Z.mean((1, 2)), torch.zeros(3, 8), atol=1e-5, rtol=0)
    a = torch.einsum("tsmn,tn->tsm", Z.double(), w.double())
    torch.testing.assert_close(y, ((a > 0) * v.double()[:, None]).sum(-1).float())


def test_label_noise_has_its_standard_deviation_and_is_drawn_once() -> None:
    clean, noisy = problem(samples=5000), problem(samples=5000, noise=0.5)
    difference = noisy.train_data[1] - clean.train_data[1]
    assert torch.equal(clean.train_data[0], noisy.train_data[0])
    assert difference.std().item() == pytest.approx(0.5, rel=0.05)
    assert difference.mean().abs() < 0.02
    assert noisy.train_data[1] is noisy.train_data[1]


def test_a_trial_does_not_depend_on_the_other_trials() -> None:
    few, many = (
        problem(trials=2, noise=0.3, v="gaussian"),
        problem(trials=5, noise=0.3, v="gaussian"),
    )
    for a, b in zip(few.teacher + few.train_data, many.teacher + many.train_data, strict=True):
        assert torch.equal(a, b[:2])
        assert not torch.equal(b[0], b[1])


def test_more_samples_extend_the_data() -> None:
    short, long = problem(samples=30, noise=0.2), problem(samples=50, noise=0.2)
    assert torch.equal(short.train_data[0], long.train_data[0][:, :30])
    torch.testing.assert_close(short.train_data[1], long.train_data[1][:, :30])


def test_seeds_give_different_data() -> None:
    assert torch.equal(problem(seed=3).train_data[0], problem(seed=3).train_data[0])
    assert not torch.equal(problem(seed=3).train_data[0], problem(seed=4).train_data[0])


def test_mean_and_std_move_the_same_draws() -> None:
    moved = problem(inputs={"name": "gaussian", "mean": 2.0, "std": 3.0}).inputs
    assert torch.equal(moved, 2 + 3 * problem().inputs)


def test_finite_inputs_are_taken_though_their_sum_is_not() -> None:
    Z = problem(inputs={"name": "gaussian", "std": 3e37}).inputs
    assert not Z.sum().isfinite()
    assert Z.isfinite().all()


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_a_teacher_may_see_raw_inputs(noise: float) -> None:
    options = {"inputs": "exponential", "noise": noise}
    plain = problem(**options)
    data = problem(**options, normalize="standardize", labels="raw")
    Z, y = data.train_data
    torch.testing.assert_close(Z, problem(**options, normalize="standardize").inputs)
    torch.testing.assert_close(y, plain.train_data[1])
    weight, v = data.teacher
    torch.testing.assert_close(y, response(Z, weight.sign(), v) + data.label_noise)
    (_, test_y), *_ = list(data.test_dataloader())
    (_, plain_y), *_ = list(plain.test_dataloader())
    torch.testing.assert_close(test_y, plain_y)


@pytest.mark.filterwarnings("ignore:.* trials are dead:UserWarning")
def test_standardizing_rescues_training_on_exponential_inputs() -> None:
    recovered = {}
    for normalize in ("none", "standardize"):
        data = TeacherStudent(
            n=16,
            m=4,
            samples=300,
            trials=16,
            inputs="exponential",
            normalize=normalize,
            steps_per_epoch=150,
        )
        model = BinaryTwoLayer(16, 4, trials=16)
        L.Trainer(
            max_epochs=1,
            accelerator="cpu",
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
        ).fit(model, data)
        recovered[normalize] = int(model.result()["last_recovery"].sum())
    assert recovered["none"] <= 8
    assert recovered["standardize"] == 16


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "n=0"),
        ({"m": 0}, "m=0"),
        ({"samples": -5}, "samples=-5"),
        ({"trials": 0}, "trials=0"),
        ({"steps_per_epoch": 0}, "steps_per_epoch=0"),
        ({"noise": -0.1}, "noise=-0.1"),
        ({"noise": float("nan")}, "noise=nan"),
        ({"seed": -1}, "seed=-1"),
        ({"batch_size": 51}, "batch_size=51"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"num_workers": -1}, "num_workers=-1"),
        ({"inputs": "gausian"}, "'gaussian'"),
        ({"inputs": {"name": "uniform", "hihg": 2}}, "'high'"),
        ({"inputs": {"correlation": 2}}, "None"),
        ({"inputs": {"name": "correlated", "correlation": 2}}, "correlation=2"),
        ({"inputs": {"name": "correlated", "kind": "ar"}}, "'ar1'"),
        ({"inputs": {"name": "bernoulli", "p": 1.5}}, "p=1.5"),
        ({"inputs": {"name": "student_t", "df": 0}}, "df=0"),
        ({"inputs": {"name": "uniform", "low": 2}}, "high=1.0"),
        ({"inputs": {"name": "gaussian", "std": 0}}, "std=0"),
        ({"inputs": {"name": "gaussian", "std": "wide"}}, "wide"),
        ({"inputs": torch.tensor([[1.0, float("nan")]])}, "NaN"),
        ({"inputs": torch.zeros(3)}, "shape"),
        ({"normalize": "standardise"}, "'standardize'"),
        ({"v": "gauss"}, "'gaussian'"),
        ({"labels": "row"}, "'raw'"),
        ({"inputs": {"name": "gaussian", "row_spread": -1.0}}, "row_spread=-1.0"),
        ({"inputs": {"name": "lognormal", "sigma": 0}}, "sigma=0"),
        ({"inputs": {"name": "clusters", "distance": -1}}, "distance=-1"),
        ({"inputs": {"name": "digits", "active": 1.0}}, "active=1.0"),
    ],
)
def test_wrong_settings_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        problem(**options)


def test_inputs_that_overflow_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="NaN or infinity"):
        problem(inputs={"name": "gaussian", "std": 1e39}).setup("fit")


def test_a_part_of_the_trials_is_that_part_of_all():
    settings = {"n": 5, "m": 2, "samples": 7, "noise": 0.3, "v": "gaussian", "seed": 4}
    whole = TeacherStudent(**settings, trials=5)
    part = TeacherStudent(**settings, trials=2, first_trial=3)
    assert torch.equal(part.inputs, whole.inputs[3:])
    assert torch.equal(part.label_noise, whole.label_noise[3:])
    assert torch.equal(part.teacher[1], whole.teacher[1][3:])
    torch.testing.assert_close(part.train_data[1], whole.train_data[1][3:])
    with pytest.raises(ConfigurationError, match="first_trial=-1"):
        TeacherStudent(**settings, first_trial=-1)
