"""A running range that moves once per optimizer step, however often a forward pass is repeated."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from ste_lightning.quantizers.optimizer_steps import optimizer_steps

__all__ = ["StepRange"]


@dataclasses.dataclass
class _Step:
    """Where the range stood when an optimizer step began, and the union of its batches."""

    count: int
    low: Tensor
    high: Tensor
    weight: Tensor
    union_low: Tensor
    union_high: Tensor

    def follow(self, like: Tensor) -> None:
        """Go to the device and dtype to which the range was moved meanwhile."""
        if self.low.dtype is not like.dtype or self.low.device != like.device:
            for key in ("low", "high", "weight", "union_low", "union_high"):
                setattr(self, key, getattr(self, key).to(like))


class StepRange(nn.Module):
    """Moves a running range [low, high] by exponential averaging, once per optimizer step.

    With r where the range stood when the step began, and u the union of the extremes of its
    batches so far, a batch with the extremes b is quantized with r + m (b - r), which a repeated
    forward pass finds again, and the range is r + m (u - r) after it. The first data set it.

    Nothing of this is saved: a checkpoint holds the range alone.
    """

    starts: Tensor
    unions: Tensor
    weight: Tensor
    step: Tensor

    def __init__(self) -> None:
        super().__init__()
        self._step: _Step | None = None
        # the same for compiled code, which cannot branch on the step
        for name, value in {
            "starts": torch.zeros(2),
            "unions": torch.zeros(2),
            "weight": torch.ones(()),
            "step": torch.tensor(-1),
        }.items():
            self.register_buffer(name, value, persistent=False)

    @torch.no_grad()
    def forget(self) -> None:
        """Take the next batch for the first of a step."""
        self._step = None
        self.step.fill_(-1)

    @torch.no_grad()
    def move(
        self,
        batch: tuple[Tensor, Tensor],
        running: tuple[Tensor, Tensor],
        initialized: Tensor,
        momentum: float,
    ) -> tuple[Tensor, Tensor]:
        """Move ``running`` and ``initialized`` in place; return the range for this batch.

        Args:
            batch: the batch's extremes, 0-d.
            running: the range, 0-d.
            initialized: whether there was any data before, 0-d.
            momentum: m.
        """
        if torch.compiler.is_compiling():
            return self._move_compiled(batch, running, initialized, momentum)
        count, step = int(optimizer_steps()), self._step
        if step is None or step.count != count:
            weight = torch.where(initialized > 0, momentum, torch.ones_like(running[0]))
            self._step = _Step(count, running[0].clone(), running[1].clone(), weight, *batch)
            running[0].lerp_(batch[0], weight)
            running[1].lerp_(batch[1], weight)
            initialized.fill_(True)
            return running
        step.follow(running[0])
        step.union_low = torch.minimum(step.union_low, batch[0])
        step.union_high = torch.maximum(step.union_high, batch[1])
        running[0].copy_(step.low.lerp(step.union_low, step.weight))
        running[1].copy_(step.high.lerp(step.union_high, step.weight))
        return step.low.lerp(batch[0], step.weight), step.high.lerp(batch[1], step.weight)

    def _move_compiled(
        self,
        batch: tuple[Tensor, Tensor],
        running: tuple[Tensor, Tensor],
        initialized: Tensor,
        momentum: float,
    ) -> tuple[Tensor, Tensor]:
        ends, now = torch.stack(batch), torch.stack(running)
        count = optimizer_steps().to(self.step.device)
        fresh = self.step != count
        weight = torch.where(initialized > 0, momentum, torch.ones_like(self.weight))
        self.weight.copy_(torch.where(fresh, weight, self.weight))
        self.starts.copy_(torch.where(fresh, now, self.starts))
        sign = torch.tensor([-1.0, 1.0], device=ends.device, dtype=ends.dtype)
        union = torch.maximum(sign * ends, sign * self.unions) * sign
        self.unions.copy_(torch.where(fresh, ends, union))
        self.step.copy_(count)
        moved = self.starts.lerp(self.unions, self.weight)
        running[0].copy_(moved[0])
        running[1].copy_(moved[1])
        initialized.fill_(True)
        used = self.starts.lerp(ends, self.weight)
        return used[0], used[1]
