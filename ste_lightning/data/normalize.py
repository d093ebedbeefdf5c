"""Input normalization: it restores straight-through training on data that are not centred."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ste_lightning.errors import unknown

__all__ = ["Normalizer", "normalizer", "normalizer_names"]

Normalizer = Callable[[Tensor], Tensor]
"""Maps inputs (trials, N, m, n) to normalized inputs of the same shape."""


def _none(Z: Tensor) -> Normalizer:
    return lambda z: z


def _standardize(Z: Tensor) -> Normalizer:
    """(z - mean) / std of each feature, over a trial's samples and rows; a constant maps to 0."""
    features = Z.flatten(1, 2)
    mean = features.mean(1)[:, None, None]
    std = features.std(1, correction=0)[:, None, None]
    divisor = torch.where(std > 0, std, 1.0)
    return lambda z: (z - mean).div_(divisor)


def _center(Z: Tensor) -> Normalizer:
    """z - mean of each feature, over a trial's samples and rows."""
    mean = Z.flatten(1, 2).mean(1)[:, None, None]
    return lambda z: z - mean


def _layer_norm(Z: Tensor) -> Normalizer:
    """(z - mean) / std of each row over its n features; no statistics of the data set."""
    return lambda z: torch.nn.functional.layer_norm(z, z.shape[-1:], eps=1e-12)


def _standardize_layer_norm(Z: Tensor) -> Normalizer:
    """First each feature, then each row."""
    standardize, layer_norm = _standardize(Z), _layer_norm(Z)
    return lambda z: layer_norm(standardize(z))


def _whitening(Z: Tensor) -> Normalizer:
    """Symmetric (ZCA) whitening of the standardized features: covariance becomes identity.

    Standardizing first keeps the cut-off of degenerate directions (eigenvalue below 1e-6 of
    the largest: dropped) from depending on the features' units.
    """
    standardize = _standardize(Z)
    features = standardize(Z).flatten(1, 2).double()
    covariance = features.transpose(1, 2) @ features / features.shape[1]
    values, vectors = torch.linalg.eigh(covariance)
    kept = values > 1e-6 * values[:, -1:]
    scale = torch.where(kept, values.clamp(min=1e-30), 1.0).rsqrt() * kept
    root = ((vectors * scale[:, None, :]) @ vectors.transpose(1, 2)).to(Z.dtype)
    return lambda z: (standardize(z).flatten(1, 2) @ root).view_as(z)


_NORMALIZERS: dict[str, Callable[[Tensor], Normalizer]] = {
    "none": _none,
    "center": _center,
    "standardize": _standardize,
    "layer_norm": _layer_norm,
    "standardize_layer_norm": _standardize_layer_norm,
    "whitening": _whitening,
}


def normalizer_names() -> tuple[str, ...]:
    """Return the names of the normalizations."""
    return tuple(_NORMALIZERS)


def normalizer(name: str, Z: Tensor) -> Normalizer:
    """Return the normalization of that name, with statistics of each trial's training inputs.

    Args:
        name: one of :func:`normalizer_names`.
        Z: training inputs, shape (trials, N, m, n).

    Returns:
        A function of inputs of the same trials; test inputs meet the training statistics.

    Raises:
        ConfigurationError: for an unknown name.

    Source: arXiv 2505.18113 v2 (normalization restores recovery on non-Gaussian data).
    """
    if name not in _NORMALIZERS:
        raise unknown("normalize", name, _NORMALIZERS)
    return _NORMALIZERS[name](Z)
