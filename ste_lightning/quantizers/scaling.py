"""Scales of binary weights: how large the quantized value is."""

from __future__ import annotations

from torch import Tensor

from ste_lightning.errors import unknown

__all__ = ["SCALES", "mean_magnitude"]

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
