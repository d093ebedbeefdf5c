"""Floats to codes: the number of thresholds that each number has reached."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor
from torch.nn import functional

from ste_lightning.kernels.dispatch import default_format
from ste_lightning.kernels.jit.threads import share

__all__ = ["levels"]


def levels(x: Tensor, thresholds: Tensor, factor: Tensor | None = None, axis: int = -1) -> Tensor:
    """Return codes c with c = number of k such that factor x >= t_k, as uint8.

    Not-a-number has the highest code.

    Args:
        x: floats; those of float32 on the CPU are compared by compiled code.
        thresholds: (1, count) or (channels, count), ascending, fewer than 256.
        factor: one number per channel; default 1.
        axis: the channels' axis of ``x``.

    Returns:
        A tensor of the shape of ``x``, stored with the channels last if ``x`` is.
    """
    channels, count = thresholds.shape
    compiled = x.device.type == "cpu" and x.dtype == torch.float32 and x.numel() > 0
    if not compiled or default_format() == "torch":
        return _levels_torch(x, thresholds, factor, axis)
    from ste_lightning.kernels.pack import count_thresholds

    x, table = x.detach(), thresholds.detach().to(torch.float32).contiguous()
    scale = _ones(channels)
    if factor is not None:
        scale = factor.detach().float().expand(channels).contiguous()
    if channels == 1:  # where an element lies does not matter
        if not (x.is_contiguous() or x.movedim(axis, -1).is_contiguous()):
            x = x.contiguous()
        out = torch.empty_like(x, dtype=torch.uint8)
        size = x.numel()
        one = (x.data_ptr(), scale.data_ptr(), table.data_ptr(), 1, count, size, out.data_ptr())
        share(lambda a, b: count_thresholds.count_planes(*one, a, b), size, 1 << 16, 64)
        return out
    axis %= x.dim()
    last = x.movedim(axis, -1)
    if last.is_contiguous():
        return _levels_last(last, scale, table).movedim(-1, axis)
    x = x.contiguous()
    out = torch.empty_like(x, dtype=torch.uint8)
    inner = math.prod(x.shape[axis + 1 :])
    planes = (x.data_ptr(), scale.data_ptr(), table.data_ptr(), channels, count, inner)
    share(
        lambda a, b: count_thresholds.count_planes(*planes, out.data_ptr(), a, b),
        x.numel(),
        1 << 16,
        64,
    )
    return out


def _levels_last(x: Tensor, scale: Tensor, table: Tensor) -> Tensor:
    """Return the codes of rows of channels with their own thresholds."""
    from ste_lightning.kernels.pack import count_thresholds

    out = torch.empty_like(x, dtype=torch.uint8)
    channels, count = table.shape
    if count <= count_thresholds.MOST_COMPARED:
        work, table = count_thresholds.count_rows, table.T.contiguous()
    else:
        work = count_thresholds.search_rows
        table = functional.pad(table, (0, 256 - count), value=math.inf)
    arguments = (x.data_ptr(), scale.data_ptr(), table.data_ptr(), channels, count, out.data_ptr())
    share(lambda a, b: work(*arguments, a, b), x.numel() // channels, 1 + (1 << 16) // channels)
    return out


@functools.lru_cache(maxsize=64)
def _ones(count: int) -> Tensor:
    return torch.ones(count)


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
