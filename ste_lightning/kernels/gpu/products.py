"""Which kernel multiplies what, and the inputs of a convolution as rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ste_lightning.kernels.gpu import triton_kernels
from ste_lightning.kernels.gpu.words import DeviceWeights

__all__ = ["FEW_ROWS", "multiply", "multiply_floats", "patches"]

FEW_ROWS = 8  # up to here the time is that of reading the weights

# Fused multiply-adds would round once where the CPU rounds twice.
_EXACT: dict[str, Any] = {"enable_fp_fusion": False}


def multiply(x: Tensor, w: DeviceWeights, center: int, scale: Tensor, shift: Tensor) -> Tensor:
    """Return ``scale * ((x + center) W^T) + shift``, float32 (rows, outputs).

    Args:
        x: int8 (rows, length), the inputs' integers less ``center``.
        w: weights on the same device.
        center: what the inputs have been reduced by to fit, 0 where they do anyway.
        scale, shift: float32, one per output.
    """
    rows = len(x)
    if rows <= FEW_ROWS:
        return _single(x, w, center, scale, shift)
    out = torch.empty(rows, w.outputs, dtype=torch.float32, device=x.device)
    tile = 16 if rows <= 16 else 32 if rows <= 32 else 64
    grid = (-(-rows // tile), -(-w.outputs // 64))
    triton_kernels.many_rows[grid](
        x.contiguous(), w.data, w.sums, scale, shift, out, rows, *_sizes(w), center,
        PLANES=w.planes, ROWS=tile, OUTPUTS=64, WORDS=2, num_warps=4, **_EXACT,
    )  # fmt: skip
    return out


def multiply_floats(x: Tensor, w: DeviceWeights, scale: Tensor, shift: Tensor) -> Tensor:
    """Return ``scale * (x W^T) + shift`` for a few rows of floats, summed in float32."""
    return _single(x, w, 0, scale, shift)


def _single(x: Tensor, w: DeviceWeights, center: int, scale: Tensor, shift: Tensor) -> Tensor:
    out = torch.empty(len(x), w.outputs, dtype=torch.float32, device=x.device)
    if len(x):
        triton_kernels.single_rows[(-(-w.outputs // 16), len(x))](
            x.contiguous(), w.data, w.sums, scale, shift, out, *_sizes(w), center,
            FLOATS=x.is_floating_point(), PLANES=w.planes, OUTPUTS=16, WORDS=8, num_warps=4,
            **_EXACT,
        )  # fmt: skip
    return out


def _sizes(w: DeviceWeights) -> tuple[int, ...]:
    """Outputs, columns and words of a row, words of a plane, and what a stored number means."""
    width = -(-w.length // 32)
    return w.outputs, w.length, width, w.outputs * width, w.step, w.zero


def patches(
    x: Tensor, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> Tensor:
    """Return what a convolution over padded ``x`` reads, (images, *output size, channels * taps).

    Args:
        x: (images, channels, *size), of any type.
        kernel, stride, dilation: per spatial dimension.
    """
    dims = len(kernel)
    for axis, (k, s, d) in enumerate(zip(kernel, stride, dilation, strict=True)):
        x = x.unfold(2 + axis, (k - 1) * d + 1, s)[..., ::d]
    places = [2 + axis for axis in range(dims)]
    taps = [2 + dims + axis for axis in range(dims)]
    return x.permute(0, *places, 1, *taps).flatten(1 + dims)
