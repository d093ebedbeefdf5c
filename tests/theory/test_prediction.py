"""Predicted recurrence: closed forms, and against training under label noise."""

from __future__ import annotations

import math

import lightning as L
import numpy as np
import pytest
import torch

from ste_lightning.data import TeacherStudent
from ste_lightning.errors import ConfigurationError
from ste_lightning.functional import surrogate
from ste_lightning.models import BinaryTwoLayer
from ste_lightning.models.coarse_gradient import evaluate
from ste_lightning.theory.prediction import (
    predict_recurrence,
    restoring_drift,
    teacher_gradient,
)


@pytest.mark.parametrize("n", [4, 16, 100])
def test_restoring_drift_of_identity_and_relu(n: int) -> None:
    v = torch.tensor([[0.6, 0.8], [3.0, 4.0]])
    identity = 2 / math.sqrt(2 * math.pi * n) * torch.tensor([1.0, 25.0], dtype=torch.float64)
    torch.testing.assert_close(restoring_drift(n, v, "identity"), identity)
    torch.testing.assert_close(restoring_drift(n, v, "relu"), identity / 2)


@pytest.mark.parametrize("rule", ["relu", "clipped", "tanh", "clipped_relu"])
def test_restoring_drift_is_the_mean_gradient_of_a_wrong_coordinate(rule: str) -> None:
    data = TeacherStudent(n=8, m=2, samples=200_000, v="gaussian", seed=1)
    Z, y = data.train_data
    sign, v = data.teacher[0].sign(), data.teacher[1]
    push = []
    for i in range(8):
        wrong = sign.clone()
        wrong[0, i] *= -1
        push.append(-evaluate(Z, y, wrong, v, surrogate(rule))[1][0, i] * sign[0, i])
    expected = restoring_drift(8, v, rule)[0]
    assert torch.stack(push).mean().item() == pytest.approx(expected.item(), rel=0.02)


def test_product_formulas() -> None:
    v = torch.tensor([[1.0]])
    drift = restoring_drift(3, v, "relu").item()
    teacher = torch.tensor([[1.0, -1.0, 1.0]]) / math.sqrt(3)
    gradient = torch.tensor([[0.2, -0.1, -0.4]]) * drift  # the third is not adverse
    predicted = predict_recurrence(gradient, teacher, v)
    torch.testing.assert_close(
        predicted.rotation, torch.tensor([[0.2, 0.1, 0.0]], dtype=torch.float64)
    )
    assert predicted.fraction.item() == pytest.approx(0.72)
    assert predicted.escape_rate.item() == pytest.approx(0.72 - 0.6 * 0.8)
    assert predicted.return_time.item() == pytest.approx(0.28 / 0.24)


def test_without_noise_no_escape_is_due() -> None:
    data = TeacherStudent(n=8, m=2, samples=100, trials=3)
    gradient = teacher_gradient(*data.train_data, *data.teacher)
    predicted = predict_recurrence(gradient, *data.teacher)
    assert (predicted.fraction == 1).all()
    assert (predicted.escape_rate == 0).all()
    assert predicted.return_time.isnan().all()


def test_prediction_meets_training_under_label_noise() -> None:
    data = TeacherStudent(n=8, m=4, samples=1024, trials=16, noise=0.5, steps_per_epoch=800, seed=5)
    model = BinaryTwoLayer(8, 4, trials=16, burn_in=100)
    L.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    ).fit(model, data)
    result = model.result()
    observed = result["fraction_at_teacher"].double()
    predicted = predict_recurrence(teacher_gradient(*data.train_data, *data.teacher), *data.teacher)
    assert np.corrcoef(predicted.fraction, observed)[0, 1] > 0.9
    assert (predicted.fraction - observed).abs().max() < 0.15
    rate = result["escapes"].double().mean() / 800
    assert rate.item() == pytest.approx(predicted.escape_rate.mean().item(), rel=0.1)


def test_wrong_shapes_are_named() -> None:
    with pytest.raises(ConfigurationError, match=r"gradient\.shape"):
        predict_recurrence(torch.zeros(1, 3), torch.ones(1, 4), torch.ones(1, 2))
    with pytest.raises(ConfigurationError, match="n=1"):
        restoring_drift(1, torch.ones(1, 2))
