"""Levels of a grid as codes: how quantized inputs of several bits wait for the backward pass.

A code is level - low, one byte; two share a byte in what is kept, if four bits each are enough.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ste_lightning.kernels import training
from ste_lightning.kernels.jit.threads import share

__all__ = ["LEAST", "Grid", "slack"]

LEAST = 1 << 18  # elements worth a thread of their own


def slack(low: float, high: float) -> tuple[float, float]:
    """Return the ends of a grid, wider by what rounding may add: see ``fake_quantize``."""
    more = 4 * torch.finfo(torch.float32).eps * (high - low)
    return low - more, high + more


@dataclass(frozen=True)
class Grid:
    """One grid: y = step (clip(round(x / step + zero), low, high) - zero)."""

    step: float
    zero: float
    low: float
    high: float

    @property
    def in_halves(self) -> bool:
        """Whether four bits hold a code."""
        return self.high - self.low < 16

    def codes(self, x: Tensor, masked: bool) -> tuple[Tensor, Tensor | None] | None:
        """Return the codes and bits of where the gradient passes, or ``None`` for NaN.

        Args:
            x: contiguous float32.
            masked: whether to make the bits.
        """
        count, words = x.numel(), (x.numel() + 31) // 32
        out, strange = torch.empty(x.shape, dtype=torch.uint8), []
        mask = torch.empty(4 * words, dtype=torch.uint8) if masked else None
        given, to = x.data_ptr(), out.data_ptr()
        bits = 0 if mask is None else mask.data_ptr()
        numbers = (self.step, self.zero, self.low, self.high, *slack(self.low, self.high))

        def part(first: int, last: int) -> None:
            strange.append(
                training.grids.codes(given, *numbers, to, bits, masked, count, first, last)
            )

        share(part, words, LEAST // 32)
        return None if any(strange) else (out, mask)

    def kept(self, codes: Tensor) -> Tensor:
        """Return what is kept of the codes."""
        if not self.in_halves:
            return codes
        count = codes.numel()
        out = torch.empty((count + 1) // 2, dtype=torch.uint8)
        given, to = codes.data_ptr(), out.data_ptr()
        share(lambda a, b: training.grids.join_halves(given, to, count, a, b), len(out), LEAST)
        return out

    def values(self, codes: Tensor) -> Tensor:
        """Return y from the codes."""
        out = torch.empty(codes.shape)
        given, to, numbers = codes.data_ptr(), out.data_ptr(), (self.step, self.zero, self.low)
        share(lambda a, b: training.grids.values(given, *numbers, to, a, b), out.numel(), LEAST)
        return out

    def values_of_kept(self, kept: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Return y in this shape from what :meth:`kept` returned."""
        if not self.in_halves:
            return self.values(kept)
        out = torch.empty(shape)
        given, to, numbers = kept.data_ptr(), out.data_ptr(), (self.step, self.zero, self.low)
        count, work = out.numel(), training.grids.values_of_halves
        share(lambda a, b: work(given, *numbers, to, count, a, b), kept.numel(), LEAST)
        return out
