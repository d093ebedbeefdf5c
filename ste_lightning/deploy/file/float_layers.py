"""The torch modules in files of version 1, and their settings."""

from __future__ import annotations

from typing import Any

from torch import nn

from ste_lightning.errors import ConfigurationError, unknown
from ste_lightning.layers import RPReLU, RSign

__all__ = ["build_float"]

_CONV = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups")
_POOL = ("kernel_size", "stride", "padding", "ceil_mode")
_NORM = ("num_features", "eps")

_SETTINGS: dict[type[nn.Module], tuple[str, ...]] = {
    nn.Linear: ("in_features", "out_features"),
    nn.Conv1d: (*_CONV, "padding_mode"),
    nn.Conv2d: (*_CONV, "padding_mode"),
    nn.Conv3d: (*_CONV, "padding_mode"),
    nn.ConvTranspose1d: (*_CONV, "output_padding"),
    nn.ConvTranspose2d: (*_CONV, "output_padding"),
    nn.MultiheadAttention: (
        "embed_dim",
        "num_heads",
        "add_zero_attn",
        "kdim",
        "vdim",
        "batch_first",
    ),
    nn.BatchNorm1d: _NORM,
    nn.BatchNorm2d: _NORM,
    nn.BatchNorm3d: _NORM,
    nn.LayerNorm: ("normalized_shape", "eps"),
    nn.RMSNorm: ("normalized_shape", "eps", "elementwise_affine"),
    nn.GroupNorm: ("num_groups", "num_channels", "eps"),
    nn.Embedding: ("num_embeddings", "embedding_dim", "padding_idx"),
    nn.MaxPool1d: (*_POOL, "dilation"),
    nn.MaxPool2d: (*_POOL, "dilation"),
    nn.AvgPool1d: (*_POOL, "count_include_pad"),
    nn.AvgPool2d: (*_POOL, "count_include_pad"),
    nn.AdaptiveAvgPool1d: ("output_size",),
    nn.AdaptiveAvgPool2d: ("output_size",),
    nn.AdaptiveMaxPool2d: ("output_size",),
    nn.MaxPool3d: (*_POOL, "dilation"),
    nn.AvgPool3d: (*_POOL, "count_include_pad"),
    nn.AdaptiveAvgPool3d: ("output_size",),
    nn.Upsample: ("size", "scale_factor", "mode", "align_corners"),
    nn.PixelShuffle: ("upscale_factor",),
    nn.ZeroPad2d: ("padding",),
    nn.Flatten: ("start_dim", "end_dim"),
    nn.ReLU: (),
    nn.ReLU6: (),
    nn.LeakyReLU: ("negative_slope",),
    nn.PReLU: ("num_parameters",),
    nn.Hardtanh: ("min_val", "max_val"),
    nn.Tanh: (),
    nn.Sigmoid: (),
    nn.SiLU: (),
    nn.GELU: ("approximate",),
    nn.ELU: ("alpha",),
    nn.Softplus: ("beta", "threshold"),
    nn.Mish: (),
    nn.Hardsigmoid: (),
    nn.Hardswish: (),
    nn.Softmax: ("dim",),
    nn.LogSoftmax: ("dim",),
    nn.Identity: (),
    RSign: (),
    RPReLU: (),
}
_BY_NAME = {cls.__name__: cls for cls in _SETTINGS}


def build_float(spec: dict[str, Any]) -> nn.Module:
    """Return a torch module by its description, with values yet to be loaded.

    Raises:
        ConfigurationError: for an unknown type or setting, or a value that torch refuses.
    """
    name = spec.get("type")
    if not isinstance(name, str) or name not in _BY_NAME:
        raise unknown("float layer", name, _BY_NAME)
    cls, settings = _BY_NAME[name], spec.get("settings")
    if not isinstance(settings, dict):
        raise ConfigurationError(f"{name} has no settings.")
    plain = {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()}
    try:
        return cls(**plain).eval()
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ConfigurationError(f"{name} cannot be built: {error}") from error
