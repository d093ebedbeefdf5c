"""Two remedies against weights that oscillate between two levels: dampening and freezing."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.optim import Optimizer

from ste_lightning.callbacks.stepping import Anneal, StepCounter, latents_in, quantized_latents
from ste_lightning.errors import require
from ste_lightning.metrics import Latent, OscillationFrequency

__all__ = ["OscillationDampening", "OscillationFreezing", "dampening_residual"]


@torch.no_grad()
def dampening_residual(latent: Latent) -> Tensor:
    r"""Return :math:`\mathrm{clip}(w) - q(w)`, zero for weights outside the grid.

    The grid's range is that of the levels in use; the dampening loss is the sum of squares.
    """
    levels, scale = latent.levels()
    low, high = levels.min(), levels.max()
    reach = torch.where(low == high, high.abs(), high)
    low = torch.where(low == high, -reach, low)
    weight = latent.weight.detach()
    inside = (weight >= low * scale) & (weight <= reach * scale)
    return ((weight - levels * scale) * inside).to(weight.dtype)


class OscillationDampening(L.Callback):
    r"""Pull latent weights towards the centre of their bin.

    .. math:: L \leftarrow L + \lambda \sum_i (q(w_i) - \mathrm{clip}(w_i))^2

    with q(w) held constant and the clip at the ends of the grid. Only the gradient
    :math:`2 \lambda (w - q(w))` is added, before the optimizer's step and before gradient
    clipping: the logged loss stays the task's.

    Args:
        strength: lambda at the end of training; default 0.1.
        initial: lambda at the start, raised along a half cosine; default 0.

    Raises:
        ConfigurationError: for a negative strength; at the start of training for a model
            without quantized weights or a training without an end.

    Source: Nagel et al. 2022, arXiv 2203.11086, section 4.1.
    """

    def __init__(self, strength: float = 0.1, initial: float = 0.0) -> None:
        for name, value in {"strength": strength, "initial": initial}.items():
            require(value >= 0, name, value, "use 0 or a positive number")
        self.strength, self.initial = strength, initial

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Find the latent weights."""
        self._latents = quantized_latents(pl_module)
        self._anneal = Anneal(trainer, self.initial, self.strength)

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer
    ) -> None:
        """Add the dampening loss's gradient."""
        strength = self._anneal.value(trainer)
        for latent in latents_in(optimizer, self._latents):
            assert latent.weight.grad is not None
            latent.weight.grad.add_(dampening_residual(latent), alpha=2 * strength)


class OscillationFreezing(L.Callback):
    r"""Freeze a weight whose oscillation frequency exceeds a threshold.

    Its level becomes the one, of the two between which it oscillates, that is nearer to the
    running mean of its levels. From then on its gradient is zero and its latent weight sits on
    that level, level times scale, so that a learned scale goes on learning. A weight that its
    own quantizer would not keep on the level (a map that normalizes first) stays free.

    Logs ``quantization/frozen``, the share of frozen weights, once an epoch.

    Args:
        threshold: the frequency at the end of training; default 0.011.
        initial: the frequency at the start, lowered along a half cosine; default 0.1. Equal
            values make it constant.
        momentum: of the frequency and of the mean level; default 0.01.

    Raises:
        ConfigurationError: for a value out of range; at the start of training for a model
            without quantized weights or a training without an end.

    Source: Nagel et al. 2022, arXiv 2203.11086, section 4.2 and algorithm 1.
    """

    def __init__(
        self, threshold: float = 0.011, initial: float = 0.1, momentum: float = 0.01
    ) -> None:
        for name, value in {"threshold": threshold, "initial": initial}.items():
            require(0 <= value < 1, name, value, "use a number in [0, 1)")
        require(0 < momentum <= 1, "momentum", momentum, "use a number in (0, 1]")
        self.threshold, self.initial, self.momentum = threshold, initial, momentum
        self._latents: list[Latent] = []
        self._trackers: dict[str, _Freezer] = {}
        self._restored: dict[str, Any] = {}

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Forget what a fit that failed may have left."""
        if stage == "fit":
            self._restored = {}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Find the latent weights and take up the state of an interrupted run."""
        self._latents = quantized_latents(pl_module)
        self._anneal = Anneal(trainer, self.initial, self.threshold)
        self._steps = StepCounter(trainer)
        self._trackers = {one.name: _Freezer(one, self.momentum) for one in self._latents}
        for name, state in self._restored.items():
            if name in self._trackers:
                self._trackers[name].load_state_dict(state)
        self._restored = {}

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer
    ) -> None:
        """Take frozen weights out of the gradient."""
        for latent in latents_in(optimizer, self._latents):
            assert latent.weight.grad is not None
            latent.weight.grad.masked_fill_(self._trackers[latent.name].frozen, 0.0)

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Track the levels and freeze, after every optimizer step."""
        if self._steps.advanced(trainer):
            threshold = self._anneal.value(trainer)
            for tracker in self._trackers.values():
                tracker.step(threshold)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the share of frozen weights."""
        pl_module.log("quantization/frozen", self.frozen_share())

    def frozen_share(self) -> float:
        """Return the share of all latent weights that are frozen."""
        masks = [tracker.frozen for tracker in self._trackers.values()]
        return sum(int(m.sum()) for m in masks) / max(sum(m.numel() for m in masks), 1)

    def state_dict(self) -> dict[str, Any]:
        """Return frequencies, mean levels and frozen weights by layer."""
        return {name: tracker.state_dict() for name, tracker in self._trackers.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the state until training starts."""
        self._restored = dict(state_dict)


class _Freezer:
    """Tracks one latent weight's levels and holds its frozen elements."""

    def __init__(self, latent: Latent, momentum: float) -> None:
        self.latent, self.momentum = latent, momentum
        self.oscillation = OscillationFrequency(momentum).to(latent.weight.device)
        self.oscillation.update(latent.levels()[0])
        self.mean = self.oscillation.previous.float()
        self.frozen = torch.zeros_like(self.mean, dtype=torch.bool)
        self.level = self.oscillation.previous.clone()

    @torch.no_grad()
    def step(self, threshold: float) -> None:
        weight = self.latent.weight
        before = self.oscillation.previous
        levels, scale = self.latent.levels()
        levels = torch.where(self.frozen, self.level, levels)
        self.oscillation.update(levels)
        self.mean.lerp_(levels.float(), self.momentum)
        new = (self.oscillation.frequency > threshold) & ~self.frozen
        nearer = (levels - self.mean).abs() <= (before - self.mean).abs()
        self.level = torch.where(new, torch.where(nearer, levels, before), self.level)
        kept = weight.detach().clone()
        held = self.frozen | new
        weight.copy_(torch.where(held, self.level * scale, kept))
        if bool(new.any()):
            escaped = new & (self.latent.levels()[0] != self.level)
            weight.copy_(torch.where(escaped, kept, weight))
            held = held & ~escaped
        self.frozen = held

    def state_dict(self) -> dict[str, Tensor]:
        metric = self.oscillation
        return {
            "previous": metric.previous,
            "direction": metric.direction,
            "frequency": metric.frequency,
            "counts": metric.counts,
            "mean": self.mean,
            "frozen": self.frozen,
            "level": self.level,
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        for name, value in state.items():
            owner = self if name in ("mean", "frozen", "level") else self.oscillation
            setattr(owner, name, value.to(self.latent.weight.device))
