"""Operands on equally spaced grids: constant ones, one per token, and learned ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from ste_lightning.functional.estimator.surrogate import Window
from ste_lightning.functional.products.operand import Encoded, Gradients, Integers, Levels
from ste_lightning.functional.saved import bit_masks
from ste_lightning.functional.saved.codes import LEAST, Grid, slack
from ste_lightning.kernels import training
from ste_lightning.kernels.jit.threads import share, shared_sum

__all__ = ["ClippedInput", "GridInput", "GridWeights", "Learned", "TokenInput"]

SMALLEST = 1e-8  # a learned scale at or below zero is used as this


def by_rows(
    work: Callable[..., None], elements: tuple[Tensor, ...], *numbers: Tensor | float, rows: int
) -> None:
    """Call compiled code of rows for all of them; a single row is shared among threads in parts.

    Args:
        work: takes addresses of ``elements`` and of tensors of ``rows`` numbers, numbers, the
            length of a row, and the first and the last row.
    """
    given = [t.data_ptr() for t in elements]
    others = [t.data_ptr() if isinstance(t, Tensor) else t for t in numbers]
    count = elements[0].numel()
    if rows == 1:
        share(lambda a, b: work(*(p + 4 * a for p in given), *others, b - a, 0, 1), count, LEAST)
        return
    inner = count // max(rows, 1)
    least = 1 + LEAST // max(inner, 1)
    share(lambda a, b: work(*given, *others, inner, a, b), rows, least)


def added_up(work: Callable[[int, int, int], None], totals: int, elements: int) -> Tensor:
    """Return float64 totals over elements, of which threads take parts; these are added in order.

    Args:
        work: adds to totals at an address what a part, from its first to its last element, has.
        totals: how many.
        elements: how many; one or more.
    """

    def part(first: int, last: int) -> Tensor:
        found = torch.zeros(totals, dtype=torch.float64)
        work(found.data_ptr(), first, last)
        return found

    return shared_sum(part, elements, LEAST)


@dataclass(frozen=True)
class GridInput:
    """One constant grid: codes and one bit per element wait."""

    keeps: ClassVar[str] = "codes of its input"
    grid: Grid
    shape: torch.Size
    learned: tuple[Tensor, ...] = ()

    @property
    def levels(self) -> Levels:
        """What the codes stand for."""
        return Levels(self.grid.low, self.grid.high, self.grid.zero, self.grid.step)

    def multiples_of(self, kept: tuple[Tensor, ...]) -> Tensor:
        """Return the step."""
        return torch.tensor([self.grid.step])

    def encode(self, x: Tensor, learns: bool, integers: bool) -> Encoded | None:
        """Return codes and, where a gradient in ``x`` is wanted, the mask's bits."""
        finite = math.isfinite(self.grid.step)
        found = self.grid.codes(x.float(), masked=learns) if finite else None
        if found is None:
            return None
        codes, mask = found
        kept = self.grid.kept(codes)
        return Encoded((kept,) if mask is None else (kept, mask), codes)

    def values(self, encoded: Encoded) -> Tensor:
        """Return q(x)."""
        assert encoded.codes is not None
        return self.grid.values(encoded.codes)

    def values_of_kept(self, kept: tuple[Tensor, ...]) -> Tensor:
        """Return q(x) again."""
        return self.grid.values_of_kept(kept[0], self.shape)

    def differentiate(self, grad: Tensor, kept: tuple[Tensor, ...]) -> Gradients:
        """Return ``grad`` inside the grid's ends."""
        return bit_masks.mask_gradient(grad, kept[1], 0.0), ()


class ClippedInput:
    """PACT's grid from 0 to a learned alpha: codes and two bits per element wait.

    dq/dx = 1[0 < x < alpha], dq/dalpha = 1[x >= alpha].
    """

    keeps: ClassVar[str] = "codes of its input"

    def __init__(self, alpha: Tensor, steps: int, shape: torch.Size) -> None:
        self.learned = (alpha,)
        self.bound = float(np.maximum(np.float32(alpha.item()), np.float32(SMALLEST)))
        step = float(np.float32(self.bound) / np.float32(steps))
        self.grid, self.shape = Grid(step, 0.0, 0.0, float(steps)), shape

    @property
    def levels(self) -> Levels:
        """What the codes stand for."""
        return Levels(0.0, self.grid.high, 0.0, self.grid.step)

    def multiples_of(self, kept: tuple[Tensor, ...]) -> Tensor:
        """Return the step."""
        return torch.tensor([self.grid.step])

    def encode(self, x: Tensor, learns: bool, integers: bool) -> Encoded | None:
        """Return codes and bits of x > 0 and of 0 < x < alpha."""
        x = x.float()
        found = self.grid.codes(x, masked=False)
        if found is None:
            return None
        kept = self.grid.kept(found[0])
        if not learns:
            return Encoded((kept,), found[0])
        last = float(np.nextafter(np.float32(self.bound), np.float32(0)))
        positive, inside = bit_masks.pack(x, True, Window(0.0, last))
        assert inside is not None
        return Encoded((kept, positive, inside), found[0])

    def values(self, encoded: Encoded) -> Tensor:
        """Return q(x)."""
        assert encoded.codes is not None
        return self.grid.values(encoded.codes)

    def values_of_kept(self, kept: tuple[Tensor, ...]) -> Tensor:
        """Return q(x) again."""
        return self.grid.values_of_kept(kept[0], self.shape)

    def differentiate(self, grad: Tensor, kept: tuple[Tensor, ...]) -> Gradients:
        """Return the gradients in x and in alpha."""
        _, positive, inside = kept
        above = bit_masks.unpack(positive, self.shape, 0, torch.float32)
        above -= bit_masks.unpack(inside, self.shape, 0, torch.float32)
        by_alpha = (grad * above).sum().view(self.learned[0].shape)
        return bit_masks.mask_gradient(grad, inside, 0.0), (by_alpha,)


class TokenInput:
    """A grid of -high - 1 .. high for each token, from its largest magnitude: codes wait."""

    keeps: ClassVar[str] = "codes of its input"
    learned: tuple[Tensor, ...] = ()

    def __init__(self, high: int, shape: torch.Size) -> None:
        self.high, self.shape = float(high), shape
        self.inner = shape[-1]
        self.rows = shape.numel() // max(self.inner, 1)
        self.least = 1 + LEAST // max(self.inner, 1)
        self.steps = torch.empty(self.rows)

    @property
    def levels(self) -> Levels:
        """What the codes stand for."""
        return Levels(-self.high - 1, self.high, 0.0, self.steps)

    def multiples_of(self, kept: tuple[Tensor, ...]) -> Tensor:
        """Return every token's step."""
        return kept[1]

    def encode(self, x: Tensor, learns: bool, integers: bool) -> Encoded | None:
        """Return codes, one byte each, and every token's step."""
        codes, strange = torch.empty(x.shape, dtype=torch.uint8), []
        x = x.float()
        given, steps, to = x.data_ptr(), self.steps.data_ptr(), codes.data_ptr()

        def part(first: int, last: int) -> None:
            numbers = (given, self.high, steps, to, self.inner, first, last)
            strange.append(training.grids.token_codes(*numbers))

        share(part, self.rows, self.least)
        return None if any(strange) else Encoded((codes, self.steps), codes)

    def values(self, encoded: Encoded) -> Tensor:
        """Return q(x)."""
        return self.values_of_kept(encoded.kept)

    def values_of_kept(self, kept: tuple[Tensor, ...]) -> Tensor:
        """Return q(x) again."""
        codes, steps = kept
        out = torch.empty(self.shape)
        addresses = codes.data_ptr(), steps.data_ptr(), -self.high - 1, out.data_ptr(), self.inner
        share(lambda a, b: training.grids.values_of_tokens(*addresses, a, b), self.rows, self.least)
        return out

    def differentiate(self, grad: Tensor, kept: tuple[Tensor, ...]) -> Gradients:
        """Return ``grad``: nothing is clipped."""
        return grad, ()


@dataclass(frozen=True)
class GridWeights:
    """Constant grids of equal parts of the weights, one after the other in memory.

    Attributes:
        steps, zeros: one per part, contiguous float32.
        low, high: the lowest and the highest level.
        symmetric: whether all zeros are 0.
        covers: whether the gradient passes everywhere.
    """

    steps: Tensor
    zeros: Tensor
    low: float
    high: float
    symmetric: bool
    covers: bool
    learned: tuple[Tensor, ...] = ()

    @property
    def constants(self) -> Tensor:
        """What must be finite."""
        return self.steps

    def quantize(self, weight: Tensor, out: Tensor) -> Tensor:
        """Return the nearest grid values in ``out``."""
        rows, starts = self.steps.numel(), torch.zeros_like(self.steps)
        numbers = (self.steps, self.zeros, starts, self.low, self.high)
        by_rows(training.grids.quantize_rows, (weight, out), *numbers, rows=rows)
        return out

    def differentiate(self, grad: Tensor, weight: Tensor) -> Gradients:
        """Return ``grad`` with zeros for weights outside."""
        if not self.covers:
            numbers = (self.steps, self.zeros, *slack(self.low, self.high))
            by_rows(training.grids.clip_rows, (weight, grad), *numbers, rows=self.steps.numel())
        return grad, ()

    def multiples_of(self, weight: Tensor) -> Tensor | None:
        """Return the steps, where there is one for each output or for all.

        Half of them where zero points are levels and a half, such as N2UQ's.
        """
        if self.steps.numel() not in (1, len(weight)):
            return None
        return self.steps if self.symmetric else self.steps / 2

    def rounded(self, weight: Tensor) -> tuple[float, float] | None:
        """Return the ends, where weights over steps are rounded."""
        return (self.low, self.high) if self.symmetric else None

    def integers(self, weight: Tensor, out: Tensor | None) -> Integers | None:
        """Return the levels, where there is one step for each output or for all."""
        if not self.symmetric or self.steps.numel() not in (1, len(weight)):
            return None
        steps = self.steps.expand(len(weight)).contiguous().numpy()
        return Integers(weight, steps, self.low, self.high)


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
