"""Floats to codes: the number of thresholds that each number has reached."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from ste_lightning.kernels.products import default_format
from ste_lightning.kernels.threads import share

__all__ = ["levels"]

_MOST_COMPARED = 24  # thresholds; more are searched


def levels(x: Tensor, thresholds: Tensor, factor: Tensor | None = None, axis: int = -1) -> Tensor:
    """Return codes c with c = number of k such that factor x >= t_k, as uint8.

    Not-a-number has the highest code.

    Args:
        x: floats; those of float32 on the CPU are compared by compiled code.
        thresholds: (1, count) or (channels, count), ascending, fewer than 256.
        factor: one number per channel; default 1.
        axis: the channels' axis of ``x``.

    Returns:
        A tensor of the shape of ``x``; channels are stored last if they are in ``x``.
    """
    channels, count = thresholds.shape
    compiled = x.device.type == "cpu" and x.dtype == torch.float32 and x.numel() > 0
    if not compiled or default_format() == "torch":
        return _levels_torch(x, thresholds, factor, axis)
    from ste_lightning.kernels import staircase

    axis %= x.dim()
    last = x.detach().movedim(axis, -1)
    channels_last = last.is_contiguous()
    flat = (last if channels_last else x.detach().contiguous()).reshape(-1)
    out = torch.empty(flat.shape, dtype=torch.uint8)
    inner = 1 if channels_last else math.prod(x.shape[axis + 1 :])
    if channels == 1:
        inner = min(flat.numel(), 1 << 12)
    ones = torch.ones(channels)
    compare = count <= _MOST_COMPARED
    table = thresholds.detach().to(torch.float32)
    table = table.T if compare else functional.pad(table, (0, 256 - count), value=math.inf)
    flat_table = table.reshape(-1).numpy()
    scale = (ones if factor is None else factor.detach().float().expand(channels)).contiguous()
    work = staircase.count_rows if compare else staircase.search

    def part(first: int, end: int, source: Tensor, target: Tensor, width: int) -> None:
        work(
            source.numpy(),
            scale.numpy(),
            flat_table,
            channels,
            count,
            width,
            target.numpy(),
            first,
            end,
        )

    size = channels * inner
    rows = flat.numel() // size
    least = 1 + (1 << 16) // size
    share(lambda a, b: part(a, b, flat, out, inner), rows, least)
    if rows * size < flat.numel():  # the rest of a single row of thresholds
        part(0, 1, flat[rows * size :], out[rows * size :], flat.numel() - rows * size)
    if channels_last:
        return out.view(last.shape).movedim(-1, axis)
    return out.view(x.shape)


def _levels_torch(x: Tensor, thresholds: Tensor, factor: Tensor | None, axis: int) -> Tensor:
    thresholds = thresholds.to(x.dtype)
    if len(thresholds) == 1 and factor is None:
        return torch.bucketize(x.contiguous(), thresholds[0], right=True).to(torch.uint8)
    last = x.movedim(axis, -1)
    if factor is not None:
        last = last * factor.to(x.dtype)
    if x.numel() == 0:
        return torch.empty_like(x, dtype=torch.uint8)
    rows = last.reshape(-1, last.shape[-1]).T.contiguous()
    table = thresholds.expand(len(rows), -1).contiguous()
    found = torch.searchsorted(table, rows, right=True)
    return found.T.reshape(last.shape).movedim(-1, axis).to(torch.uint8)
