"""Every product in plain torch and 64 bits: what the compiled kernels must equal.

Slow and short. Operands are unsigned codes with what they stand for; results are exact.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ste_lightning.kernels.layout.geometry import Geometry
from ste_lightning.kernels.layout.integer_codes import Codes

__all__ = ["codes_of_sums", "convolve", "linear", "values"]


def values(codes: Tensor, kind: Codes) -> Tensor:
    """Return the integers ``step * code + offset`` that codes stand for, float64."""
    return codes.double() * kind.step + kind.offset


def linear(x: Tensor, inputs: Codes, codes: Tensor, weights: Codes) -> Tensor:
    """Return X W^T.

    Args:
        x: (rows, channels) codes of the inputs.
        codes: (outputs, 1, channels), as :func:`~ste_lightning.kernels.prepare` takes them.
        inputs, weights: what they stand for.
    """
    return values(x, inputs) @ values(codes[:, 0], weights).T


def convolve(
    x: Tensor,
    inputs: Codes,
    codes: Tensor,
    weights: Codes,
    geometry: Geometry,
    groups: int = 1,
    pad_value: float | None = None,
) -> Tensor:
    """Return the convolution of X with W.

    Args:
        x: (images, groups x channels, *size) codes of the inputs.
        codes: (groups x outputs, taps, channels).
        inputs, weights: what they stand for.
        geometry: kernel, stride, padding and dilation.
        groups: of channels.
        pad_value: what padding is worth; ``None``: what code 0 stands for.
    """
    pads = [p for pair in reversed(geometry.padding) for p in pair]
    worth = float(inputs.offset) if pad_value is None else pad_value
    padded = functional.pad(values(x, inputs), pads, value=worth)
    kernel = values(codes, weights).movedim(1, 2).reshape(*codes.shape[::2], *geometry.kernel)
    operator = (functional.conv1d, functional.conv2d, functional.conv3d)[len(geometry.kernel) - 1]
    y: Tensor = operator(padded, kernel, None, geometry.stride, 0, geometry.dilation, groups)
    return y


def codes_of_sums(y: Tensor, least: Tensor, falling: Tensor) -> Tensor:
    """Return how many of an output's thresholds t have y >= t, or y < t where it falls.

    Args:
        y: (rows, outputs).
        least: (count, outputs) thresholds.
        falling: (outputs,) bool.
    """
    reached = (y[:, None] >= least).sum(1)
    return torch.where(falling, len(least) - reached, reached).to(torch.uint8)
