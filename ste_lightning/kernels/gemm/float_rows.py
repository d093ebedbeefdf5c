"""Products of float inputs with packed weights, which are decoded in registers: no float copy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ste_lightning.kernels.jit.arrays import empty, zeros
from ste_lightning.kernels.jit.c_functions import FLOATS, SIZE, SUMS, carray, on_demand
from ste_lightning.kernels.jit.threads import share
from ste_lightning.kernels.layout.integer_codes import Codes
from ste_lightning.kernels.layout.weight_tiles import aligned
from ste_lightning.kernels.ukernels.float_decode import LANES, WIDTHS, floats_1, floats_8

__all__ = ["FloatInputWeights", "multiply_floats", "prepare_for_floats"]

_ROWS = 8  # of a tile
_LEAST = 1 << 20  # products worth a thread


@dataclass(frozen=True)
class FloatInputWeights:
    """Packed weights of a linear layer of floats.

    Attributes:
        words: int32 (16 outputs, group of 32 / bits channels, output), as flat bytes.
        bits: of a stored code: 2, 4 or 8.
        table: what the lowest four bits of a word stand for; the first two differ by the step.
        outputs, channels: the weight's shape.
        scale, shift: per output.
    """

    words: NDArray[np.uint8]
    bits: int
    table: NDArray[np.float32]
    outputs: int
    channels: int
    scale: NDArray[np.float32]
    shift: NDArray[np.float32]

    @property
    def groups(self) -> int:
        """Words of an output."""
        return -(-self.channels * self.bits // 32)


def prepare_for_floats(
    codes: Tensor, weights: Codes, scale: Tensor, shift: Tensor
) -> FloatInputWeights:
    """Lay out weights for :func:`multiply_floats`.

    Args:
        codes: (outputs, channels) uint8.
        weights: what they stand for.
        scale, shift: per output: results are ``scale (x W^T) + shift``.
    """
    outputs, channels = codes.shape
    bits = next(width for width in WIDTHS if width >= weights.bits)
    per, blocks = 32 // bits, -(-outputs // LANES)
    groups = -(-channels // per)
    padded = np.zeros((blocks * LANES, groups * per), np.uint8)
    padded[:outputs, :channels] = codes.numpy()
    field = padded.reshape(blocks, LANES, groups, per)
    words = aligned(4 * blocks * LANES * groups)
    target = words.view(np.uint32).reshape(blocks, groups, LANES)
    for k in range(per):
        target |= field[:, :, :, k].transpose(0, 2, 1).astype(np.uint32) << np.uint32(bits * k)
    code = np.arange(16) & (2**bits - 1)
    table = (weights.step * code + weights.offset).astype(np.float32)
    given = (np.ascontiguousarray(v.detach().float().numpy()) for v in (scale, shift))
    return FloatInputWeights(words, bits, table, outputs, channels, *given)


@on_demand(*(FLOATS, SUMS, FLOATS, SIZE, SIZE, SIZE, SIZE, FLOATS, FLOATS, FLOATS, SIZE, SIZE))
def _multiply(  # type: ignore[no-untyped-def]
    x_, words_, table_, bits, rows, outputs, channels, scale_, shift_, out_, first, last
):
    """Write blocks ``first`` to ``last`` of 16 outputs, of all rows."""
    per = 32 // bits
    groups = (channels + per - 1) // per
    x, out = carray(x_, (rows * channels,)), carray(out_, (rows * outputs,))
    words, table = carray(words_, (last * LANES * groups,)), carray(table_, (16,))
    scale, shift = carray(scale_, (outputs,)), carray(shift_, (outputs,))
    size = 1 if rows == 1 else _ROWS
    tile, sums = zeros(groups * per * size, np.float32), empty(LANES * size, np.float32)
    for start in range(0, rows, size):
        count = min(size, rows - start)
        for r in range(count):
            for k in range(channels):
                tile[k * size + r] = x[(start + r) * channels + k]
        for block in range(first, last):
            at = block * groups * LANES
            if size == 1:
                floats_1(words, at, table, bits, tile, groups, sums)
            else:
                floats_8(words, at, table, bits, tile, groups, sums)
            n = block * LANES
            for r in range(count):
                for lane in range(min(LANES, outputs - n)):
                    value = sums[r * LANES + lane] * scale[n + lane]
                    out[(start + r) * outputs + n + lane] = value + shift[n + lane]


def multiply_floats(x: Tensor, w: FloatInputWeights) -> Tensor:
    """Return ``scale (x W^T) + shift``, (rows, outputs); x is float32 (rows, channels) on the CPU.

    Sums are float32, in another order than torch's.
    """
    x = x.contiguous()
    rows = x.shape[0]
    out = torch.empty(rows, w.outputs)
    if out.numel() == 0:
        return out
    work = _multiply()
    given = (
        *(x.data_ptr(), w.words.ctypes.data, w.table.ctypes.data, w.bits, rows),
        *(w.outputs, w.channels, w.scale.ctypes.data, w.shift.ctypes.data, out.data_ptr()),
    )
    least = 1 + _LEAST // (rows * w.channels * LANES)
    share(lambda a, b: work(*given, a, b), -(-w.outputs // LANES), least)
    return out
