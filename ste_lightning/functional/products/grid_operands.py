"""Operands on equally spaced grids: constant ones, learned ends, and one grid per token."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from ste_lightning.functional.estimator.surrogate import Window
from ste_lightning.functional.products.learned_operand import SMALLEST
from ste_lightning.functional.products.operand import Encoded, Gradients, Integers, Levels
from ste_lightning.functional.products.threaded import by_rows
from ste_lightning.functional.saved import bit_masks
from ste_lightning.functional.saved.codes import LEAST, Grid, slack
from ste_lightning.kernels import training
from ste_lightning.kernels.jit.threads import share

__all__ = ["ClippedInput", "GridInput", "GridWeights", "TokenInput"]


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
