"""Where uniform grids are computed by compiled code, and how."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

import torch
from torch import Tensor

from ste_lightning.kernels.jit.threads import share

__all__ = ["Coded", "InputGrid", "WeightGrid"]

_LEAST = 1 << 18  # elements worth a thread of their own


def _kernels() -> ModuleType:
    from ste_lightning.kernels.training import uniform

    return uniform


def _slack(low: float, high: float) -> tuple[float, float]:
    """Return the ends of a grid, wider by what rounding may add: see ``fake_quantize``."""
    slack = 4 * torch.finfo(torch.float32).eps * (high - low)
    return low - slack, high + slack


@dataclass(frozen=True)
class Coded:
    """Codes that wait for the backward pass: four bits each if the grid needs no more."""

    grid: InputGrid
    shape: torch.Size

    @property
    def in_halves(self) -> bool:
        """Whether two codes share a byte."""
        return self.grid.high - self.grid.low < 16

    def kept(self, codes: Tensor) -> Tensor:
        """Return what is kept of the codes, one byte each."""
        if not self.in_halves:
            return codes
        count = codes.numel()
        out = torch.empty((count + 1) // 2, dtype=torch.uint8)
        given, to = codes.data_ptr(), out.data_ptr()
        join = _kernels().join_halves
        share(lambda a, b: join(given, to, count, a, b), len(out), _LEAST)
        return out

    def values(self, kept: Tensor) -> Tensor:
        """Return the quantized input, from what was kept."""
        if not self.in_halves:
            return self.grid.values(kept)
        grid, out = self.grid, torch.empty(self.shape)
        given, to, count = kept.data_ptr(), out.data_ptr(), out.numel()
        numbers, work = (grid.step, grid.zero, grid.low), _kernels().values_of_halves
        share(lambda a, b: work(given, *numbers, to, count, a, b), kept.numel(), _LEAST)
        return out


@dataclass(frozen=True)
class InputGrid:
    """One grid: y = step (clip(round(x / step + zero), low, high) - zero)."""

    step: float
    zero: float
    low: float
    high: float

    def codes(self, x: Tensor, masked: bool) -> tuple[Tensor, Tensor | None] | None:
        """Return level - low as uint8 and bits of where the gradient passes, or ``None`` for NaN.

        Args:
            x: contiguous float32.
            masked: whether to make the bits.
        """
        count, words = x.numel(), (x.numel() + 31) // 32
        out, strange = torch.empty(x.shape, dtype=torch.uint8), []
        mask = torch.empty(4 * words, dtype=torch.uint8) if masked else None
        given, to = x.data_ptr(), out.data_ptr()
        bits = 0 if mask is None else mask.data_ptr()
        numbers = (self.step, self.zero, self.low, self.high, *_slack(self.low, self.high))
        work = _kernels().codes

        def part(first: int, last: int) -> None:
            strange.append(work(given, *numbers, to, bits, masked, count, first, last))

        share(part, words, _LEAST // 32)
        return None if any(strange) else (out, mask)

    def values(self, codes: Tensor) -> Tensor:
        """Return y from :meth:`codes`."""
        out = torch.empty(codes.shape)
        given, to, work = codes.data_ptr(), out.data_ptr(), _kernels().values
        numbers = self.step, self.zero, self.low
        share(lambda a, b: work(given, *numbers, to, a, b), codes.numel(), _LEAST)
        return out


@dataclass(frozen=True)
class WeightGrid:
    """Grids of equal parts of the weights, one after the other in memory.

    Attributes:
        steps, zeros: one per part, contiguous float32.
        low, high: the lowest and the highest level.
        symmetric: whether all zeros are 0.
        covers: whether no weight can lie outside.
    """

    steps: Tensor
    zeros: Tensor
    low: float
    high: float
    symmetric: bool
    covers: bool

    def quantize(self, weight: Tensor, out: Tensor) -> Tensor:
        """Return the nearest grid values in ``out``, which is contiguous like ``weight``."""
        self._rows(_kernels().quantize_rows, weight, out, self.low, self.high)
        return out

    def clip(self, grad: Tensor, weight: Tensor) -> Tensor:
        """Return ``grad``, contiguous and the caller's own, with zeros for weights outside."""
        if not self.covers:
            self._rows(_kernels().clip_rows, weight, grad, *_slack(self.low, self.high))
        return grad

    def _rows(
        self, work: Callable[..., None], weight: Tensor, out: Tensor, low: float, high: float
    ) -> None:
        rows = self.steps.numel()
        inner = weight.numel() // max(rows, 1)
        given = (weight.data_ptr(), out.data_ptr(), self.steps.data_ptr(), self.zeros.data_ptr())
        share(lambda a, b: work(*given, low, high, inner, a, b), rows, 1 + _LEAST // max(inner, 1))
