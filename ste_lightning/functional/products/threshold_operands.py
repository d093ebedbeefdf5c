"""An input that is counted against learned thresholds, as N2UQ's."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from ste_lightning.functional.products.operand import Encoded, Gradients, Levels
from ste_lightning.functional.products.threaded import added_up
from ste_lightning.functional.saved.codes import LEAST, Grid
from ste_lightning.kernels import training
from ste_lightning.kernels.jit.threads import share

__all__ = ["LearnedThresholds"]


class LearnedThresholds:
    """y = scale_out d #{T < scale_in x} with a threshold in the middle of every segment.

    Floats wait. Gradients are those of :func:`~ste_lightning.functional.threshold_quantize` with
    the identity's rule.

    Args:
        start: where the first segment begins, 0-d float32.
        widths: of the n segments, 1-d float32.
        scale_in, scale_out: 0-d float32.
        narrowest: a width below it is used as this.
        worth: d.
    """

    keeps: ClassVar[str] = "its float input"

    def __init__(
        self,
        start: Tensor,
        widths: Tensor,
        scale_in: Tensor,
        scale_out: Tensor,
        narrowest: float,
        worth: float,
    ) -> None:
        self.learned = (start, widths, scale_in, scale_out)
        self.free, self.worth = widths.detach() >= narrowest, worth
        self.widths = widths.detach().clamp_min(narrowest)
        first = start.detach()
        self.edges = torch.cat([first.reshape(1), first + self.widths.cumsum(0)])
        self.thresholds = (self.edges[:-1] + self.edges[1:]) / 2
        self.scale, self.count = float(scale_in.detach()), len(widths)
        self.grid = Grid(float(scale_out.detach() * worth), 0.0, 0.0, float(self.count))

    @property
    def levels(self) -> Levels:
        """What the codes stand for."""
        return Levels(0.0, self.grid.high, 0.0, self.grid.step)

    def _below(self, x: Tensor, bounds: Tensor) -> Tensor:
        """Return how many of ``count`` bounds are less than scale_in x."""
        from ste_lightning.kernels.pack.count_thresholds import count_planes

        # compiled code counts those that are not greater
        above = torch.nextafter(bounds, torch.full_like(bounds, torch.inf))
        codes, factor = torch.empty(x.shape, dtype=torch.uint8), torch.tensor([self.scale])
        given = x.data_ptr(), factor.data_ptr(), above.data_ptr()
        rest = 1, self.count, x.numel(), codes.data_ptr()
        share(lambda a, b: count_planes(*given, *rest, a, b), x.numel(), LEAST, 64)
        return codes

    def multiples_of(self, kept: tuple[Tensor, ...]) -> Tensor:
        """Return the step."""
        return torch.tensor([self.grid.step])

    def encode(self, x: Tensor, learns: bool, integers: bool) -> Encoded:
        """Keep the input; return its counts."""
        return Encoded((x,), self._below(x.float(), self.thresholds))

    def values(self, encoded: Encoded) -> Tensor:
        """Return q(x)."""
        assert encoded.codes is not None
        return self.grid.values(encoded.codes)

    def values_of_kept(self, kept: tuple[Tensor, ...]) -> Tensor:
        """Return q(x) again."""
        return self.grid.values(self._below(kept[0].float(), self.thresholds))

    def differentiate(self, grad: Tensor, kept: tuple[Tensor, ...]) -> Gradients:
        """Return the gradients in x and, summed in float64, in what is learned."""
        x = kept[0].float()
        below = self._below(x, self.edges[:-1])
        given = [t.data_ptr() for t in (grad, x, below, self.edges, self.widths, self.thresholds)]
        numbers = (self.count, self.scale, self.grid.step)
        work = training.thresholds.differentiate_thresholds
        count = 2 * self.count + 2
        total = added_up(lambda to, a, b: work(*given, *numbers, to, a, b), count, x.numel())
        slopes, places = total[: self.count], total[self.count : -2] / self.widths
        after = slopes.sum() - slopes.cumsum(0)  # of the segments that a width moves
        by_widths = torch.where(self.free, -(places + after), 0.0)
        found = (-slopes.sum(), by_widths, total[-1], total[-2] * self.worth)
        pairs = zip(found, self.learned, strict=True)
        return grad, tuple(g.to(t.dtype).view(t.shape) for g, t in pairs)
