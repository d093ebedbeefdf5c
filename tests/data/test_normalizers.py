"""Normalizations of a trial's inputs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ste_lightning.data.inputs import input_law
from ste_lightning.data.normalize import normalizer, normalizer_names


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
