"""Linear products of signs with the signs of latent weights, with few calls around two passes.

Products of some hundred channels and outputs take less time than the general way to them.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ste_lightning.kernels.gemm.entries import entry_point
from ste_lightning.kernels.layout.call_record import row_site
from ste_lightning.kernels.layout.integer_codes import SIGNS
from ste_lightning.kernels.layout.packed_weights import Prepared
from ste_lightning.kernels.layout.weight_tiles import aligned
from ste_lightning.kernels.pack.latent_shapes import empty_prepared
from ste_lightning.kernels.pack.sign_weights import lanes_of, lay_out_signs

__all__ = ["multiply_signs"]

_ROOMS = 64  # shapes of layers that a thread keeps room for: bits, a 32nd of their weights


class _Room(NamedTuple):
    """Where one shape's weights are laid out, and what compiled code needs to be told of it."""

    weights: Prepared
    sums: NDArray[np.int64]
    layout: tuple[int, ...]
    shift: int
    site: int
    product: Callable[..., None]


class _Rooms(threading.local):
    def __init__(self) -> None:
        self.rooms: dict[tuple[int, int, str], _Room] = {}


_rooms = _Rooms()


def _made(outputs: int, channels: int, format: str) -> _Room:
    empty = empty_prepared(format, SIGNS, SIGNS, 1, outputs, 1, channels)
    panels, shift = aligned(len(empty.panels)), np.zeros(outputs, np.float32)
    weights = replace(empty, panels=panels, shift=shift, cache={})
    sums = np.empty(outputs, np.int64)
    site, layout = row_site(weights), weights.layout
    lanes = lanes_of(format).ctypes.data
    shape = (outputs, 1, channels, weights.units, layout.width, layout.unit, lanes)
    to = (panels.ctypes.data, 0, sums.ctypes.data, 0, 0, outputs)
    product = entry_point(site, "once")
    return _Room(weights, sums, (*shape, *to), weights.shift.ctypes.data, site.address, product)


def multiply_signs(x: Tensor, weight: Tensor, bias: Tensor | None, format: str) -> Tensor:
    """Return ``sign(x) sign(W)^T + bias``; its integers are exact.

    Args:
        x: (rows, channels).
        weight: (outputs, channels).
        bias: (outputs,), or ``None``.
        format: one of those that count bits.

    All are contiguous float32 on the CPU and not empty.
    """
    outputs, channels = weight.shape
    room = _rooms.rooms.get((outputs, channels, format))
    if room is None:
        if len(_rooms.rooms) >= _ROOMS:
            _rooms.rooms.clear()
        room = _rooms.rooms[outputs, channels, format] = _made(outputs, channels, format)
    _, _, layout, shift, site, product = room
    lay_out_signs(weight.data_ptr(), *layout)
    if bias is None:
        ctypes.memset(shift, 0, 4 * outputs)
    else:
        ctypes.memmove(shift, bias.data_ptr(), 4 * outputs)
    rows = len(x)
    out = torch.empty(rows, outputs)
    product(site, x.data_ptr(), 0, 0, 0, 0, out.data_ptr(), rows)
    return out
