"""Operands whose steps, and perhaps starts, are learned."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from ste_lightning.functional.products.operand import Encoded, Gradients, Integers, Levels
from ste_lightning.functional.products.threaded import added_up, by_rows
from ste_lightning.functional.saved.codes import Grid
from ste_lightning.kernels import training

__all__ = ["SMALLEST", "Learned"]

SMALLEST = 1e-8  # a learned scale at or below zero is used as this


class Learned:
    """Learned steps, one for all or one per output, and a learned start: floats wait.

    y = s round(clip((x - b) / s, low, high)) + b; b is rounded to whole steps. The gradient of s
    needs the float's distance to its level.

    Args:
        scale: s, contiguous float32, as it is differentiated.
        offset: b in the shape of ``scale``, or ``None`` for 0.
        low, high: the lowest and the highest level.
    """

    keeps: ClassVar[str] = "its float input"

    def __init__(self, scale: Tensor, offset: Tensor | None, low: float, high: float) -> None:
        self.learned = (scale,) if offset is None else (scale, offset)
        self.low, self.high = low, high
        self.steps = scale.detach().reshape(-1).clamp_min(SMALLEST)
        self.starts = torch.zeros_like(self.steps)
        if offset is not None:
            self.starts = (offset.detach().reshape(-1) / self.steps).round_().mul_(self.steps)

    @property
    def levels(self) -> Levels | None:
        """What the codes stand for: none with a start, nor beyond a byte."""
        if len(self.learned) == 2 or self.high - self.low >= 256:
            return None
        return Levels(self.low, self.high, 0.0, self.steps.item())

    def encode(self, x: Tensor, learns: bool, integers: bool) -> Encoded | None:
        """Keep the input; return codes where they are wanted."""
        levels = self.levels if integers else None
        if levels is None:
            return Encoded((x,))
        assert isinstance(levels.step, float)
        found = Grid(levels.step, 0.0, self.low, self.high).codes(x.float(), masked=False)
        return Encoded((x,), None if found is None else found[0])

    def values(self, encoded: Encoded) -> Tensor:
        """Return q(x)."""
        return self.values_of_kept(encoded.kept)

    def values_of_kept(self, kept: tuple[Tensor, ...]) -> Tensor:
        """Return q(x) again."""
        return self.quantize(kept[0].float(), torch.empty(kept[0].shape))

    def quantize(self, x: Tensor, out: Tensor) -> Tensor:
        """Return the nearest grid values in ``out``."""
        zeros = torch.zeros_like(self.steps)
        numbers = (self.steps, zeros, self.starts, self.low, self.high)
        by_rows(training.grids.quantize_rows, (x, out), *numbers, rows=self.steps.numel())
        return out

    def differentiate(self, grad: Tensor, kept: Tensor | tuple[Tensor, ...]) -> Gradients:
        """Return the gradients in x, in s, summed in float64, and in b."""
        x = (kept if isinstance(kept, Tensor) else kept[0]).float()
        rows = self.steps.numel()
        if rows == 1:
            totals = self._shared(grad, x)
        else:
            totals = torch.empty(rows, 2, dtype=torch.float64)
            numbers = (self.steps, self.starts, self.low, self.high, totals)
            by_rows(training.grids.differentiate_rows, (grad, x), *numbers, rows=rows)
        found = zip(self.learned, totals.unbind(1), strict=False)  # a start is not always learned
        return grad, tuple(total.to(t.dtype).view(t.shape) for t, total in found)

    def _shared(self, grad: Tensor, x: Tensor) -> Tensor:
        steps = (self.steps.data_ptr(), self.starts.data_ptr(), self.low, self.high)
        places = grad.data_ptr(), x.data_ptr()

        def work(to: int, first: int, last: int) -> None:
            at = (place + 4 * first for place in places)
            training.grids.differentiate_rows(*at, *steps, to, last - first, 0, 1)

        return added_up(work, 2, x.numel()).view(1, 2)

    def multiples_of(self, kept: Tensor | tuple[Tensor, ...]) -> Tensor:
        """Return the steps, of which the start is a multiple, too."""
        return self.steps

    def rounded(self, weight: Tensor) -> tuple[float, float] | None:
        """Return the ends, where weights over steps are rounded: not with a start."""
        return (self.low, self.high) if len(self.learned) == 1 else None

    def integers(self, weight: Tensor, out: Tensor | None) -> Integers | None:
        """Return the levels; ``None`` with a start."""
        if len(self.learned) == 2:
            return None
        steps = self.steps.expand(len(weight)).contiguous().numpy()
        return Integers(weight, steps, self.low, self.high)
