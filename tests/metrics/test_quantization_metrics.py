"""Each metric against its formula in NumPy."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from torchmetrics import Metric

from ste_lightning import functional as SF
from ste_lightning.errors import ConfigurationError
from ste_lightning.metrics import (
    DeadChannels,
    EstimatingError,
    FlipRatio,
    GradientStability,
    LatentHistogram,
    OscillationFrequency,
    PerLayer,
    Saturation,
    ScaleDrift,
    SignEntropy,
    quantizer_derivative,
)
from ste_lightning.quantizers import build

RNG = np.random.default_rng(0)


def nagel(levels: np.ndarray, momentum: float) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies and counts of each weight, one weight and one step at a time."""
    frequency, counts = np.zeros(levels.shape[1]), np.zeros(levels.shape[1], int)
    for i in range(levels.shape[1]):
        direction = 0
        for t in range(1, len(levels)):
            change = np.sign(levels[t, i] - levels[t - 1, i])
            event = change != 0 and change == -direction
            frequency[i] = momentum * event + (1 - momentum) * frequency[i]
            counts[i] += event
            direction = change if change != 0 else direction
    return frequency, counts


def test_oscillation_frequency_is_nagels() -> None:
    levels = RNG.integers(-2, 3, (60, 25)) * (RNG.random((60, 25)) < 0.2)
    metric = OscillationFrequency(momentum=0.05, threshold=0.02)
    for step in levels:
        metric.update(torch.tensor(step))
    frequency, counts = nagel(levels, 0.05)
    np.testing.assert_allclose(metric.frequency, frequency, rtol=1e-5, atol=1e-8)
    np.testing.assert_array_equal(metric.counts, counts)
    assert metric.compute().item() == pytest.approx(np.mean(frequency > 0.02))
    assert counts.sum() > 20


def test_oscillation_sees_across_a_reset_and_a_monotone_walk_is_none() -> None:
    metric = OscillationFrequency(momentum=1.0)
    metric.update(torch.tensor([0, 0]))
    metric.update(torch.tensor([1, 1]))
    metric.reset()
    metric.update(torch.tensor([2, 0]))
    assert metric.counts.tolist() == [0, 1]
    assert metric.compute() == 0.5
    metric.reset()
    assert metric.counts.tolist() == [0, 0]


def test_oscillation_takes_latent_weights_by_their_signs() -> None:
    metric = OscillationFrequency(momentum=1.0)
    for value in (0.3, -0.1, 0.9):
        metric.update(torch.tensor([value, 0.5]))
    assert metric.counts.tolist() == [1, 0]


@pytest.mark.parametrize("o", [1.0, 2.0, 3.0])
def test_estimating_error_is_restes_at_the_present_order(o: float) -> None:
    w = RNG.normal(0, 0.7, (8, 9))
    f = np.sign(w) * np.minimum(np.abs(w), 1.5) ** (1 / o)
    inner = np.abs(w) <= 0.1
    f[inner] = w[inner] * 0.1 ** (1 / o) / 0.1
    expected = np.sqrt(np.sum((f - np.where(w >= 0, 1, -1)) ** 2))
    metric = EstimatingError()
    metric.update(torch.tensor(w), SF.surrogate("reste", o=o))
    assert metric.compute().item() == pytest.approx(expected, rel=1e-12)


def test_estimating_error_falls_as_the_order_grows() -> None:
    w = torch.tensor(RNG.normal(0, 0.7, 500))
    metric = EstimatingError()
    errors = []
    for o in (1.0, 1.5, 3.0):
        metric.update(w, SF.surrogate("reste", o=torch.tensor(o)))
        errors.append(metric.last.item())
    assert errors[0] > errors[1] > errors[2]
    assert metric.compute().item() == pytest.approx(np.mean(errors))
    with pytest.raises(ConfigurationError, match="shape"):
        metric.update(w, SF.surrogate("reste"), w[:3])


def test_estimating_error_against_steps_and_in_half_precision() -> None:
    w = torch.tensor([-1.0, 0.25, 3.0])
    metric = EstimatingError()
    metric.update(w, SF.surrogate("clipped_relu"), SF.hard_step(w))
    assert metric.compute().item() == pytest.approx(0.75)
    metric.reset()
    metric.update(torch.full((70_000,), 2.0, dtype=torch.float16), SF.surrogate("identity"))
    assert metric.compute().item() == pytest.approx(70_000**0.5, rel=1e-3)


def test_gradient_stability_is_the_unbiased_variance_of_magnitudes() -> None:
    metric, expected = GradientStability(), []
    for _ in range(3):
        g = RNG.normal(size=(4, 5))
        metric.update(torch.tensor(g))
        expected.append(np.var(np.abs(g), ddof=1))
    assert metric.compute().item() == pytest.approx(np.mean(expected))
    assert metric.last.item() == pytest.approx(expected[-1])
    with pytest.raises(ConfigurationError):
        metric.update(torch.ones(1))


def test_saturation_counts_zero_and_small_derivatives() -> None:
    w = torch.tensor(RNG.normal(0, 1, 400))
    clipped, smooth = build({"map": "sign", "rule": "clipped"}), build({"rule": "ede", "t": 3.0})
    exact, outside = Saturation(), Saturation(0.01)
    exact.update(quantizer_derivative(clipped, w))
    outside.update(quantizer_derivative(smooth, w))
    assert exact.compute().item() == pytest.approx(np.mean(np.abs(w.numpy()) > 1))
    f = 3.0 * (1 - np.tanh(3 * w.numpy()) ** 2)
    assert outside.compute().item() == pytest.approx(np.mean(f <= 0.01))
    assert 0.05 < outside.compute() < 0.5


class Clamp(torch.nn.Module):
    """A quantizer of a user's own, without a rule."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.clamp(-1, 2)


def test_a_map_that_clips_by_itself_is_differentiated() -> None:
    derivative = quantizer_derivative(Clamp(), torch.tensor([-3.0, 0.0, 3.0]))
    assert derivative.tolist() == [0.0, 1.0, 0.0]


def test_sign_entropy_is_shannons() -> None:
    levels = RNG.choice([-1, 1], 300, p=[0.2, 0.8])
    p = np.mean(levels == 1)
    metric = SignEntropy()
    metric.update(torch.tensor(levels[:100]))
    metric.update(torch.tensor(levels[100:], dtype=torch.float32))
    metric.reset()
    metric.update(torch.tensor(levels))
    assert metric.compute().item() == pytest.approx(-p * np.log2(p) - (1 - p) * np.log2(1 - p))
    metric.reset()
    metric.update(torch.arange(-8, 8))
    assert metric.compute().item() == pytest.approx(4.0)
    assert SignEntropy().to("cpu").counts.sum() == 0


def test_dead_channels_need_one_value_over_everything_seen() -> None:
    metric = DeadChannels(channel_dim=1)
    x = torch.ones(4, 3, 2)
    x[:, 1, 0] = -1
    metric.update(x)
    assert metric.compute().item() == pytest.approx(2 / 3)
    metric.update(torch.tensor([1.0, -1.0, -1.0]).reshape(1, 3, 1))
    assert metric.compute().item() == pytest.approx(1 / 3)
    last = DeadChannels(channel_dim=-1)
    last.update(torch.tensor([[[1.0, 0.0], [1.0, 1.0]]]))
    assert last.compute() == 0.5


def test_scale_drift_is_in_octaves_and_keeps_its_reference() -> None:
    metric = ScaleDrift()
    metric.update(torch.tensor([[0.5], [0.25]]))
    metric.reset()
    metric.update(torch.tensor([[1.0], [-0.25]]))
    assert metric.compute() == 0.5
    metric.update(torch.tensor([[0.0], [0.0]]))
    assert metric.compute().isfinite()


def test_histogram_is_numpys_with_the_tails_in_the_outer_bins() -> None:
    w = RNG.normal(0, 1, 1000)
    metric = LatentHistogram(bins=10, limit=1.5)
    metric.update(torch.tensor(w))
    counts, edges = np.histogram(np.clip(w, -1.5, 1.5), bins=10, range=(-1.5, 1.5))
    np.testing.assert_allclose(metric.compute(), counts / 1000, atol=1.1e-3)
    np.testing.assert_allclose(metric.edges, edges, atol=1e-6)


def test_flip_ratio_compares_levels_of_more_than_two() -> None:
    metric = FlipRatio()
    metric.update(torch.tensor([0, 1, 2, 3]))
    metric.update(torch.tensor([0, 2, 2, 2]))
    assert metric.compute() == 0.5


def test_per_layer_weighs_by_size_or_adds() -> None:
    w = {"a": torch.tensor(RNG.normal(size=6)), "b.c": torch.tensor(RNG.normal(size=(9, 2)))}
    flips = PerLayer(FlipRatio(), w)
    flips.update(w)
    flips.update({"a": -w["a"], "b.c": w["b.c"]})
    found = flips.compute()
    assert (found["a"], found["b.c"]) == (1, 0)
    assert found["all"].item() == pytest.approx(6 / 24)
    flips.reset()
    flips.update(w)
    assert flips.compute()["a"] == 1  # the flip at the border of two epochs is not lost
    errors = PerLayer(EstimatingError(), w, total="sum")
    rule = SF.surrogate("reste")
    errors.update({name: (weight, rule) for name, weight in w.items()})
    values = errors.compute()
    assert values["all"].item() == pytest.approx((values["a"] + values["b.c"]).item())
    assert errors.layer("a").last == values["a"]


def test_per_layer_refuses_what_it_cannot_do() -> None:
    with pytest.raises(ConfigurationError):
        PerLayer(FlipRatio(), [])
    with pytest.raises(ConfigurationError):
        PerLayer(FlipRatio(), ["a", "a"])
    with pytest.raises(ConfigurationError, match="mean"):
        PerLayer(FlipRatio(), ["a"], total="meen")
    with pytest.raises(ConfigurationError, match="Did you mean 'conv1'"):
        PerLayer(FlipRatio(), ["conv1"]).update({"conv": torch.ones(2)})


LEVELS = torch.tensor([1, -1, 1, -1, 1, 1])
UPDATES = [
    (FlipRatio, {}, (LEVELS,)),
    (OscillationFrequency, {"momentum": 0.5}, (LEVELS,)),
    (EstimatingError, {}, (LEVELS.float() / 3, SF.surrogate("ede"))),
    (GradientStability, {}, (torch.arange(5.0),)),
    (Saturation, {}, (torch.tensor([0.0, 1.0, 0.0]),)),
    (SignEntropy, {}, (LEVELS,)),
    (DeadChannels, {"channel_dim": 0}, (LEVELS.float(),)),
    (ScaleDrift, {}, (torch.tensor([0.3]),)),
    (LatentHistogram, {"bins": 4}, (torch.tensor([0.1, 1.2]),)),
]


def by_class(row) -> str:
    return row[0].__name__


@pytest.mark.parametrize("row", UPDATES, ids=by_class)
def test_every_metric_pickles_copies_and_resumes(row) -> None:
    cls, options, arguments = row
    metric: Metric = cls(**options)
    metric.update(*arguments)
    metric.update(*arguments)
    resumed = cls(**options)
    resumed.load_state_dict(metric.state_dict())
    for other in (pickle.loads(pickle.dumps(metric)), copy.deepcopy(metric), resumed):
        other._update_count = metric._update_count
        assert torch.equal(other.compute(), metric.compute())
        other.update(*arguments)


@pytest.mark.parametrize("row", UPDATES, ids=by_class)
def test_calling_a_metric_accumulates_like_update(row) -> None:
    cls, options, arguments = row
    called, updated = cls(**options), cls(**options)
    for _ in range(3):
        called(*arguments)
        updated.update(*arguments)
    torch.testing.assert_close(called.compute(), updated.compute())


@pytest.mark.parametrize("row", UPDATES, ids=by_class)
@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_every_metric_is_finite_before_the_first_update(row) -> None:
    assert row[0](**row[1]).compute().isfinite().all()


@pytest.mark.parametrize(
    ("cls", "options"),
    [
        (OscillationFrequency, {"momentum": 0.0}),
        (OscillationFrequency, {"threshold": -1.0}),
        (Saturation, {"tolerance": -1.0}),
        (LatentHistogram, {"bins": 1}),
        (LatentHistogram, {"limit": 0.0}),
    ],
)
def test_settings_out_of_range_are_refused(cls, options) -> None:
    with pytest.raises(ConfigurationError):
        cls(**options)
