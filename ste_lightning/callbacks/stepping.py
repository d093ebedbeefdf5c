"""What callbacks that act once an optimizer step share: which steps, which weights, how far."""

from __future__ import annotations

import math

import lightning as L
from torch.optim import Optimizer

from ste_lightning.errors import require
from ste_lightning.functional.schedules import cosine
from ste_lightning.metrics import Latent, latents

__all__ = [
    "Anneal",
    "StepCounter",
    "latents_in",
    "quantized_latents",
    "share_done",
    "steps_of_training",
]


class StepCounter:
    """Says once for every optimizer step that it has happened (accumulation makes no step)."""

    def __init__(self, trainer: L.Trainer) -> None:
        self._seen = trainer.global_step

    def advanced(self, trainer: L.Trainer) -> bool:
        """Return whether the trainer has made a step since the last call."""
        if trainer.global_step == self._seen:
            return False
        self._seen = trainer.global_step
        return True


class Anneal:
    """A half cosine over the training's optimizer steps, from ``initial`` to ``final``.

    Args:
        trainer: whose length counts.
        initial: the value before the first step.
        final: the value after the last.

    Raises:
        ConfigurationError: if the training has no end and the two values differ.
    """

    def __init__(self, trainer: L.Trainer, initial: float, final: float) -> None:
        self.initial, self.final = initial, final
        self.steps = float(trainer.estimated_stepping_batches) if initial != final else 1.0
        require(
            math.isfinite(self.steps) and self.steps > 0,
            "trainer",
            f"{self.steps} steps",
            "set max_epochs or max_steps, or give equal initial and final values",
        )

    def value(self, trainer: L.Trainer) -> float:
        """Return the value at the trainer's present step."""
        return cosine(min(trainer.global_step / self.steps, 1.0), self.initial, self.final)


def quantized_latents(module: L.LightningModule) -> list[Latent]:
    """Return the module's latent weights; refuse a module without any.

    Raises:
        ConfigurationError: if no layer has a weight quantizer.
    """
    found = latents(module)
    require(
        len(found) > 0,
        "model",
        type(module).__name__,
        "no layer has a weight quantizer; convert it first or add the callback that does",
    )
    return found


def latents_in(optimizer: Optimizer, found: list[Latent]) -> list[Latent]:
    """Return those latent weights that this optimizer updates and that have a gradient."""
    own = {id(p) for group in optimizer.param_groups for p in group["params"]}
    return [one for one in found if id(one.weight) in own and one.weight.grad is not None]


def steps_of_training(trainer: L.Trainer, why: str) -> float:
    """Return how many optimizer steps the training has.

    Args:
        trainer: of the training.
        why: what needs to know, for the error.

    Raises:
        ConfigurationError: if the training has no end.
    """
    steps = float(trainer.estimated_stepping_batches)
    fits = math.isfinite(steps) and steps > 0
    require(fits, "trainer", f"{steps} steps", f"{why}: set max_epochs or max_steps")
    return steps


def share_done(trainer: L.Trainer, module: L.LightningModule, steps: float) -> float:
    """Return the share, 0 to 1, of the training that is done.

    With automatic optimization that is the share of ``steps`` optimizer steps. A module that
    optimizes by itself may step several optimizers a batch, or none: there batches count, and
    Lightning's ``max_steps``, which ends the training after so many steps of any optimizer.
    """
    if module.automatic_optimization:
        return min(trainer.global_step / steps, 1.0)
    batches = trainer.fit_loop.epoch_loop.batch_progress.total.processed  # type: ignore[attr-defined]
    shares = [trainer.global_step / trainer.max_steps if trainer.max_steps > 0 else 0.0]
    if trainer.max_epochs is not None and trainer.max_epochs > 0:
        shares.append(batches / (trainer.max_epochs * float(trainer.num_training_batches)))
    return min(max(shares), 1.0)
