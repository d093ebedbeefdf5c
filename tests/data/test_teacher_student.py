"""Teacher-student data: laws, normalization, reproducibility."""

from __future__ import annotations

import math
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch

from ste_lightning.data import TeacherStudent
from ste_lightning.data.inputs import input_law, input_names
from ste_lightning.data.normalize import normalizer, normalizer_names
from ste_lightning.errors import ConfigurationError
from ste_lightning.models import BinaryTwoLayer
from ste_lightning.models.coarse_gradient import response


def problem(**options: Any) -> TeacherStudent:
    return TeacherStudent(**({"n": 8, "m": 2, "samples": 50, "trials": 3} | options))


def batches(data: TeacherStudent) -> list[torch.Tensor]:
    return [Z for Z, _ in data.train_dataloader()]


MOMENTS = {
    "gaussian": (0.0, 1.0),
    "correlated": (0.0, 1.0),
    "exponential": (1.0, 1.0),
    "uniform": (0.5, 12**-0.5),
    "bernoulli": (0.5, 0.5),
    "student_t": (0.0, 3**0.5),
    "rademacher": (0.0, 1.0),
    "lognormal": (math.exp(0.5), (math.exp(2) - math.exp(1)) ** 0.5),
    "clusters": (0.0, 2**0.5),
}
REAL = {"digits", "breast_cancer", "wine"}


@pytest.mark.parametrize("name", sorted(MOMENTS))
def test_input_laws_have_their_moments(name: str) -> None:
    spec = {"name": "student_t", "df": 12.0} if name == "student_t" else name
    drawn = input_law(spec)(np.random.default_rng(0), (20000, 2, 5))
    mean, std = MOMENTS[name] if name != "student_t" else (0.0, 1.2**0.5)
    assert drawn.dtype == np.float32
    assert drawn.mean() == pytest.approx(mean, abs=0.02)
    assert drawn.std() == pytest.approx(std, abs=0.02 if name != "lognormal" else 0.1)


def test_every_named_law_is_tested() -> None:
    assert set(input_names()) == {*MOMENTS, *REAL}


def test_spreads_make_features_and_rows_differ() -> None:
    rng = np.random.default_rng(0)
    spec = {"name": "gaussian", "mean_spread": 2.0, "std_spread": 0.5}
    drawn = input_law(spec)(rng, (20000, 1, 8))[:, 0]
    quantiles = torch.special.ndtri((torch.arange(8, dtype=torch.float64) + 0.5) / 8).numpy()
    np.testing.assert_allclose(drawn.mean(0), 2 * quantiles, atol=0.06)
    np.testing.assert_allclose(np.sort(drawn.std(0)), np.exp(0.5 * quantiles), rtol=0.03)
    rows = input_law({"name": "gaussian", "row_spread": 0.7})(rng, (4000, 1, 200))[:, 0]
    logs = np.log(rows.std(1))
    assert logs.mean() == pytest.approx(0, abs=0.05)
    assert logs.std() == pytest.approx(0.7, abs=0.05)


def test_clusters_and_shifted_exponential() -> None:
    drawn = input_law({"name": "clusters", "distance": 6.0})(np.random.default_rng(0), (9000, 1, 4))
    side = np.sign(drawn[:, 0] @ [1, -1, 1, -1])
    centred = drawn[:, 0] * [1, -1, 1, -1] * side[:, None]
    np.testing.assert_allclose(centred.mean(0), 3, atol=0.05)
    assert abs(side.mean()) < 0.05
    law = input_law({"name": "exponential", "mean": 0.0})
    shifted = law(np.random.default_rng(0), (20000, 1, 2))
    assert shifted.mean() == pytest.approx(0, abs=0.02)
    assert shifted.min() == pytest.approx(-1, abs=0.01)


@pytest.mark.parametrize("kind", ["ar1", "equal"])
def test_correlated_inputs_have_their_correlation(kind: str) -> None:
    law = input_law({"name": "correlated", "correlation": 0.6, "kind": kind})
    drawn = law(np.random.default_rng(0), (40000, 1, 3))[:, 0]
    observed = np.corrcoef(drawn.T)
    far = 0.36 if kind == "ar1" else 0.6
    np.testing.assert_allclose(observed, [[1, 0.6, far], [0.6, 1, 0.6], [far, 0.6, 1]], atol=0.02)


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


def test_a_full_batch_is_the_same_tensors_at_every_step() -> None:
    data = problem(steps_per_epoch=4)
    loader = data.train_dataloader()
    assert len(loader) == 4
    seen = list(loader)
    assert len(seen) == 4
    assert all(Z is data.train_data[0] and y is data.train_data[1] for Z, y in seen)


def test_mean_and_std_move_the_same_draws() -> None:
    moved = problem(inputs={"name": "gaussian", "mean": 2.0, "std": 3.0}).inputs
    assert torch.equal(moved, 2 + 3 * problem().inputs)


def test_finite_inputs_are_taken_though_their_sum_is_not() -> None:
    Z = problem(inputs={"name": "gaussian", "std": 3e37}).inputs
    assert not Z.sum().isfinite()
    assert Z.isfinite().all()


def test_minibatches_depend_on_the_step_alone() -> None:
    options: dict[str, Any] = {"batch_size": 7, "steps_per_epoch": 6}
    alone = batches(problem(**options))
    workers = batches(problem(num_workers=2, **options))
    assert all(torch.equal(a, b) for a, b in zip(alone, workers, strict=True))
    assert alone[0].shape == (3, 7, 2, 8)
    assert not torch.equal(alone[0], alone[1])

    resumed = problem(**options).train_dataloader()
    first = problem(**options).train_dataloader()
    iterator = iter(first)
    for _ in range(4):
        next(iterator)
    resumed.load_state_dict(first.state_dict())
    assert torch.equal(next(iter(resumed))[0], alone[4])


def test_epochs_go_on_with_new_minibatches() -> None:
    loader = problem(batch_size=7, steps_per_epoch=3).train_dataloader()
    first, second = [Z for Z, _ in loader], [Z for Z, _ in loader]
    assert len(first) == len(second) == 3
    assert not torch.equal(first[0], second[0])


def test_test_data_are_fresh_with_the_training_statistics() -> None:
    data = problem(samples=4000, inputs="exponential", normalize="standardize")
    [(Z, y)] = data.test_dataloader()
    assert Z.shape == data.train_data[0].shape
    assert not torch.equal(Z, data.train_data[0])
    assert 0 < Z.mean((1, 2)).abs().max() < 0.1
    model = BinaryTwoLayer(8, 2, 3)
    model.set_teacher(*data.teacher)
    with torch.no_grad():
        model.weight.copy_(data.teacher[0])
    assert (model(Z) - y).abs().max() < 1e-6


def test_a_full_batch_moves_to_a_device_once() -> None:
    data = problem()
    device = torch.device("meta")
    moved = data.transfer_batch_to_device(data.train_data, device, 0)
    again = data.transfer_batch_to_device(data.train_data, device, 0)
    assert moved[0].device == device
    assert moved[0] is again[0]
    assert data.transfer_batch_to_device(data.train_data, torch.device("cpu"), 0) is data.train_data


def raw(name: str) -> torch.Tensor:
    law = input_law(name)
    drawn = [law(np.random.default_rng(trial), (500, 2, 6)) for trial in range(3)]
    return torch.from_numpy(np.stack(drawn))


def test_standardize_centres_and_scales_each_feature() -> None:
    Z = raw("exponential") * torch.arange(1.0, 7)
    features = normalizer("standardize", Z)(Z).flatten(1, 2)
    torch.testing.assert_close(features.mean(1), torch.zeros(3, 6), atol=1e-5, rtol=0)
    torch.testing.assert_close(features.std(1, correction=0), torch.ones(3, 6))


def test_whitening_makes_the_covariance_the_identity() -> None:
    Z = raw("correlated") * torch.tensor([1e-3, 1.0, 10, 100, 1e4, 1]) + 5
    features = normalizer("whitening", Z)(Z).flatten(1, 2)
    covariance = features.transpose(1, 2) @ features / features.shape[1]
    expected = torch.eye(6).expand(3, 6, 6)
    torch.testing.assert_close(covariance, expected, atol=2e-2, rtol=0)


def test_layer_norm_centres_and_scales_each_row() -> None:
    normalized = normalizer("layer_norm", raw("exponential"))(raw("exponential"))
    torch.testing.assert_close(normalized.mean(-1), torch.zeros(3, 500, 2), atol=1e-5, rtol=0)
    square = normalized.square().mean(-1)
    torch.testing.assert_close(square, torch.ones(3, 500, 2), atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", normalizer_names())
def test_constant_features_stay_finite(name: str) -> None:
    Z = raw("gaussian")
    Z[..., 2] = 3.0
    assert normalizer(name, Z)(Z).isfinite().all()


def test_center_and_standardize_then_layer_norm() -> None:
    Z = raw("exponential") * torch.arange(1.0, 7)
    centred = normalizer("center", Z)(Z)
    torch.testing.assert_close(centred.flatten(1, 2).mean(1), torch.zeros(3, 6), atol=1e-5, rtol=0)
    torch.testing.assert_close(centred - Z, (centred - Z)[:, :1, :1].expand_as(Z))
    both = normalizer("standardize_layer_norm", Z)(Z)
    step = normalizer("standardize", Z)(Z)
    torch.testing.assert_close(both, normalizer("layer_norm", step)(step))


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
