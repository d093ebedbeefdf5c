"""Windows and the wandering last iterate: closed forms against limits, samples and simulation."""

import math

import pytest
import torch

from ste_lightning.errors import ConfigurationError
from ste_lightning.figures.studies import wandering_figure, window_step_figure
from ste_lightning.theory.claims import wandering as claims
from ste_lightning.theory.studies import expand, run
from ste_lightning.theory.studies.wanderers import wandering_rows
from ste_lightning.theory.wandering import quenched_noise, samples_to_rest, wandering
from ste_lightning.theory.window import best_window, noise, signal
from ste_lightning.theory.window_samples import sample_window


@pytest.mark.parametrize("theta", [0.1, 0.5, 2.0])
def test_without_a_window_all_is_elementary(theta):
    assert signal(math.inf, theta) == pytest.approx((math.sqrt(2 / math.pi), 0.0), abs=1e-12)
    assert noise(math.inf, theta, 0.3) == pytest.approx(theta / math.pi)
    apart = theta / 2
    expected = (2 * theta - apart) / (2 * math.pi)
    assert quenched_noise(math.inf, theta, apart, 0.3) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("width", [0.02, 0.2, 1.0])
def test_two_students_that_agree_have_one_noise(width):
    for theta in (0.1, 0.6):
        assert quenched_noise(width, theta, 0.0, 0.25) == pytest.approx(
            noise(width, theta, 0.25), rel=1e-5
        )


def test_noises_of_two_students_agree_as_sampled():
    # Coordinates in the span of w*, w and w': a teacher and two students, angles 0.6, 0.6, 0.5.
    theta, apart, width, q = 0.6, 0.5, 0.4, 0.25
    c, s = math.cos(theta), math.sin(theta)
    turn = math.acos((math.cos(apart) - c * c) / (s * s))
    students = torch.tensor([[c, s, 0.0], [c, s * math.cos(turn), s * math.sin(turn)]])
    z = torch.randn(400_000, 4, 3, generator=torch.Generator().manual_seed(0))
    a, teacher = z @ students.T, z[..., :1]
    residual = ((a >= 0).float() - (teacher >= 0).float()).sum(1) / 2
    factor = (a.abs() <= width).float() / 2  # v = 1/2 each, q = 1/4
    products = (factor[..., 0] * factor[..., 1]).sum(1) * residual[:, 0] * residual[:, 1]
    error = float(products.std()) / math.sqrt(len(products))
    assert float(products.mean()) == pytest.approx(
        quenched_noise(width, theta, apart, q), abs=4 * error
    )


def test_the_best_window_of_a_step_is_a_multiple_of_the_angle():
    assert best_window(0.3, 1.0) == math.inf
    wide, narrow = best_window(0.5, 0.25), best_window(0.25, 0.25)
    assert wide == pytest.approx(0.92, abs=0.03)
    assert narrow == pytest.approx(0.467, abs=0.02)
    assert best_window(0.25, 1 / 16) < narrow  # more units, more noise from elsewhere


def test_steps_point_to_the_teacher_as_computed(tmp_path):
    base = {"experiment": "window_samples", "n": 32, "m": 4, "samples": 32, "trials": 200}
    grid = {"wrong": [1], "width": [0.1, 0.5, 3.0]}
    results = run(expand(base, grid), tmp_path, workers=1, show=False)
    means = [sum(r.columns["cosine"]) / 200 for r in results]
    for mean, r in zip(means, results, strict=True):
        assert mean == pytest.approx(r.columns["expected"][0], rel=0.06)
    assert means[1] > max(means[0], means[2])
    assert "1 wrong sign" in window_step_figure(results).axes[0].get_title()


def test_a_run_that_has_not_hit_the_teacher_wanders_as_far_as_computed(tmp_path):
    base = {"n": 128, "steps": 200, "trials": 16}
    parts = {
        "one": {"m": [1], "rule": ["identity"], "samples_per_input": [2]},
        "four": {"m": [4], "rule": [{"rule": "clipped", "width": 0.5}], "samples_per_input": [1.5]},
    }
    results = run(expand(base, {}, parts), tmp_path, workers=1, show=False)
    rows = wandering_rows(results)
    assert float(rows[0]["ratio"]) == pytest.approx(1.0, abs=0.12)
    assert float(rows[1]["ratio"]) == pytest.approx(0.9, abs=0.2)
    assert wandering(2.0).wrong == pytest.approx(0.1044, abs=1e-3)
    assert len(wandering_figure(results).axes) == 2


def test_the_last_iterate_needs_as_many_samples_as_computed():
    # Measured by the studies gap and last_iterate, m = 1, identity, T = 2000.
    measured = {64: 133, 128: 530, 256: 2340, 512: 11960, 1024: 62910}
    found = {n: samples_to_rest(n) for n in measured}
    for n, N50 in measured.items():
        assert found[n] == pytest.approx(N50, rel=0.17)
    rises = [math.log2(found[2 * n] / found[n]) for n in (64, 128, 256, 512)]
    assert rises == sorted(rises)
    assert rises[-1] < 2.5
    assert samples_to_rest(128, steps=4000) < found[128] < samples_to_rest(128, steps=1000)


def test_narrow_windows_wander_less():
    shares = [wandering(4.0, width=w, concentration=0.25).wrong for w in (0.05, 0.5, 1.0, 3.0)]
    assert shares == sorted(shares)
    assert shares[0] < shares[-1] / 2
    alone = wandering(4.0, width=40.0, concentration=1.0).wrong
    assert alone == pytest.approx(wandering(4.0).wrong, rel=1e-3)


@pytest.mark.parametrize("claim", claims.CLAIMS, ids=lambda claim: claim.text)
def test_no_results_are_no_measurement(claim):
    assert claim.measure([]) is None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: signal(0.0, 0.5), "width"),
        (lambda: noise(1.0, 0.5, 2.0), "concentration"),
        (lambda: best_window(4.0, 0.5), "theta"),
        (lambda: quenched_noise(1.0, 0.2, 0.5, 0.5), "apart"),
        (lambda: wandering(0.0), "samples_per_input"),
        (lambda: samples_to_rest(1), "n="),
        (lambda: samples_to_rest(64, steps=1), "steps"),
        (lambda: samples_to_rest(2), "hardly wander"),
        (lambda: sample_window(n=8, samples=8, wrong=8, width=1.0), "wrong"),
        (lambda: sample_window(n=8, samples=0, wrong=1, width=1.0), "samples"),
    ],
)
def test_bad_settings_are_named(call, message):
    with pytest.raises(ConfigurationError, match=message):
        call()
