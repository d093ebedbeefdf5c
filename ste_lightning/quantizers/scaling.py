"""Scales of binary weights: how large the quantized value is, and standardization before it."""

from __future__ import annotations

import torch
from torch import Tensor

from ste_lightning.errors import unknown

__all__ = ["SCALES", "mean_magnitude", "power_of_two_scale", "standardize"]

SCALES = ("none", "tensor_mean", "channel_mean")


def mean_magnitude(x: Tensor, scale: str, channel_dim: int = 0) -> Tensor:
    """Return the mean of |x|, over the whole tensor or per output channel.

    alpha = argmin_a ||x - a sign(x)||^2 = mean|x|.

    Args:
        x: latent weights.
        scale: ``"tensor_mean"`` gives a 0-d tensor; ``"channel_mean"`` one value per index of
            ``channel_dim``, shaped to broadcast against ``x``.
        channel_dim: the output channel's axis.

    Raises:
        ConfigurationError: for an unknown ``scale``.

    Source: Rastegari et al. 2016, arXiv 1603.05279 (XNOR-Net), section 3.1.
    """
    if scale == "tensor_mean":
        return x.abs().mean()
    if scale == "channel_mean":
        axes = [d for d in range(x.dim()) if d != channel_dim % max(x.dim(), 1)]
        return x.abs().mean(dim=axes, keepdim=True) if axes else x.abs()
    raise unknown("scale", scale, SCALES)


def standardize(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Return (x - mean) / std over ``axes``; a slice that is constant is returned as it is.

    The standard deviation is the unbiased one; the gradient passes through both statistics.

    Args:
        x: latent weights, float32 or float64.
        axes: the axes of one slice; with none, or with one element, nothing is standardized.

    Source: Qin et al. 2020, arXiv 1909.10788, eq. 8 (IR-Net).
    """
    n = 1
    for axis in axes:
        n *= x.shape[axis]
    if n < 2:
        return x
    centred = x - x.mean(dim=axes, keepdim=True)
    variance = centred.square().sum(dim=axes, keepdim=True) / (n - 1)
    # what rounding alone leaves of the variance of equal elements
    eps = torch.finfo(x.dtype).eps
    floor = (4 * eps * x.detach().abs().amax(dim=axes, keepdim=True)).square()
    constant = variance <= floor + torch.finfo(x.dtype).tiny
    # the square root's slope at 0 is infinite: keep 0 out of it also where it is not used
    std = torch.where(constant, torch.ones_like(variance), variance).sqrt()
    return torch.where(constant, x, centred / std)


def power_of_two_scale(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Return 2^round(log2 mean|x|) over ``axes``: a scale that is a shift; 1 where x is 0.

    Args:
        x: (standardized) latent weights, float32 or float64.
        axes: the axes of one slice; with none, one scale per element.

    Source: Qin et al. 2020, arXiv 1909.10788, eq. 9 (IR-Net).
    """
    mean = x.abs().mean(dim=axes, keepdim=True) if axes else x.abs()
    return torch.where(mean > 0, torch.exp2(torch.log2(mean).round()), torch.ones_like(mean))
