"""Schedule how many weights change their level in a step, instead of the learning rate."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.optim import Optimizer

from ste_lightning.callbacks.stepping import Anneal, StepCounter, quantized_latents
from ste_lightning.errors import ConfigurationError, require
from ste_lightning.optim import TransitionRate

__all__ = ["TransitionRateScheduling"]


class TransitionRateScheduling(L.Callback):
    """Steer the latent weights' learning rate so that their transition rate follows a schedule.

    The target falls along a half cosine from ``target`` to ``final``; see
    :class:`ste_lightning.optim.TransitionRate` for the loop. The first learning rate is that of
    the optimizer's group of latent weights; all such groups share one. Other groups keep their
    own schedule; whatever a schedule does to the latent group is overruled. A learned weight
    scale moves levels too: leave it fixed here.

    Logs ``quantization/transition_rate``, its running mean, and
    ``quantization/transition_lr`` with the trainer's other values of a step.

    Args:
        target: share of the weights that may change level in a step at the start, for one bit;
            b bits take sqrt(b) times as much, so give 0.005 * 2 ** 0.5 for two. Default 0.005.
        final: the share at the end; default 0.
        gain: eta of the loop; default the first learning rate.
        momentum: of the running mean; default 0.99.

    Raises:
        ConfigurationError: for a share outside [0, 1]; at the start of training if the
            optimizer keeps latent weights in one group with other parameters.

    Source: Lee et al. 2025, arXiv 2404.19248, section 4.2; the default target is ours.
    """

    def __init__(
        self,
        target: float = 0.005,
        final: float = 0.0,
        gain: float | None = None,
        momentum: float = 0.99,
    ) -> None:
        for name, value in {"target": target, "final": final}.items():
            require(0 <= value <= 1, name, value, "use a share in [0, 1]")
        TransitionRate(1.0, gain, momentum)  # refuses its own settings here, not at the start
        self.target, self.final, self.gain, self.momentum = target, final, gain, momentum
        self._loop: TransitionRate | None = None
        self._restored: dict[str, float] = {}

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Forget what a fit that failed may have left."""
        if stage == "fit":
            self._restored = {}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Find the latent weights and their groups; take up the state of an interrupted run."""
        self._latents = quantized_latents(pl_module)
        self._groups = self._latent_groups(trainer.optimizers)
        self._loop = TransitionRate(float(self._groups[0]["lr"]), self.gain, self.momentum)
        if self._restored:
            self._loop.load_state_dict(self._restored)
            self._restored = {}
        self._anneal = Anneal(trainer, self.target, self.final)
        self._steps = StepCounter(trainer)
        self._previous = [one.levels()[0] for one in self._latents]

    def _latent_groups(self, optimizers: list[Optimizer]) -> list[dict[str, Any]]:
        own = {id(one.weight) for one in self._latents}
        groups = []
        for group in (g for optimizer in optimizers for g in optimizer.param_groups):
            ids = {id(p) for p in group["params"]}
            if ids & own and not ids <= own:
                raise ConfigurationError(
                    "the optimizer keeps latent weights and other parameters in one group: build "
                    "it from ste_lightning.optim.quantizer_param_groups(model, lr)."
                )
            if ids & own:
                groups.append(group)
        require(len(groups) > 0, "optimizer", "no group", "it must update the latent weights")
        return groups

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer
    ) -> None:
        """Set the latent weights' learning rate."""
        assert self._loop is not None
        for group in self._groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(self._loop.lr)
            else:
                group["lr"] = self._loop.lr

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Count the transitions of the step and adjust the learning rate."""
        assert self._loop is not None
        if not self._steps.advanced(trainer):
            return
        levels = [one.levels()[0] for one in self._latents]
        changed = torch.stack(
            [(a != b).sum() for a, b in zip(levels, self._previous, strict=True)]
        ).sum()
        self._previous = levels
        elements = sum(level.numel() for level in levels)
        self._loop.update(float(changed) / elements, self._anneal.value(trainer))
        pl_module.log("quantization/transition_rate", self._loop.running)
        pl_module.log("quantization/transition_lr", self._loop.lr)

    def state_dict(self) -> dict[str, Any]:
        """Return the loop's state."""
        return {} if self._loop is None else self._loop.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the state until training starts."""
        self._restored = dict(state_dict)
