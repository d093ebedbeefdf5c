"""Optimizers and schedules from plain dictionaries, so that they can live in a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import lightning as L
import torch
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from ste_lightning.errors import ConfigurationError, require, unknown

__all__ = ["build_optimizer", "build_schedule", "schedule_steps"]

OPTIMIZERS: dict[str, type[Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "nadam": torch.optim.NAdam,
    "radam": torch.optim.RAdam,
    "rmsprop": torch.optim.RMSprop,
    "sgd": torch.optim.SGD,
}

SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda done: 1.0,
    "linear": lambda done: 1.0 - done,
    "cosine": lambda done: 0.5 * (1.0 + math.cos(math.pi * done)),
}


def build_optimizer(
    spec: Mapping[str, Any], parameters: Iterable[Parameter] | Iterable[dict[str, Any]]
) -> Optimizer:
    """Build an optimizer.

    Args:
        spec: ``name`` (adam, adamw, nadam, radam, rmsprop, sgd) and that class's own arguments:
            ``{"name": "adam", "lr": 1e-3}``. The keys ``schedule`` and ``epochs`` are not
            the optimizer's.
        parameters: what to optimize, or a list of parameter groups.

    Raises:
        ConfigurationError: for an unknown name or an argument the optimizer refuses.
    """
    arguments = {
        key: value for key, value in spec.items() if key not in ("name", "schedule", "epochs")
    }
    name = str(spec.get("name", "adam"))
    if name not in OPTIMIZERS:
        raise unknown("optimizer", name, OPTIMIZERS)
    try:
        return OPTIMIZERS[name](parameters, **arguments)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"optimizer {name!r} with {arguments}: {error}.") from error


def schedule_steps(spec: Mapping[str, Any], trainer: L.Trainer) -> float:
    """Return how many optimizer steps a schedule has.

    Args:
        spec: of the optimizer; ``epochs`` is the schedule's length, without it that of the
            training.
        trainer: of the training.

    Raises:
        ConfigurationError: if the schedule ends before the training does.
    """
    training = float(trainer.estimated_stepping_batches)  # this also counts the batches
    epochs = spec.get("epochs")
    if epochs is None:
        return training
    require(epochs > 0, "optimizer.epochs", epochs, "use a positive number, or null")
    batches = trainer.num_training_batches / trainer.accumulate_grad_batches
    steps = float(epochs * math.ceil(batches))
    require(
        spec.get("schedule", "constant") == "constant" or steps >= training,
        "optimizer.epochs",
        epochs,
        f"the schedule ends after {steps:g} of {training:g} steps, and the rest would learn "
        "nothing: lengthen it, or use null for the length of the training",
    )
    return steps


def build_schedule(name: str, optimizer: Optimizer, steps: float) -> LambdaLR:
    r"""Build a schedule of the learning rate over ``steps`` optimizer steps.

    With :math:`s = t / T` the rate is multiplied by 1 (constant), :math:`1 - s` (linear) or
    :math:`(1 + \cos \pi s) / 2` (cosine).

    Args:
        name: constant, linear or cosine.
        optimizer: whose rate to change.
        steps: T, the length of training in steps; must be finite unless constant.

    Raises:
        ConfigurationError: for an unknown name or an infinite length.
    """
    if name not in SCHEDULES:
        raise unknown("schedule", name, SCHEDULES)
    require(
        name == "constant" or (math.isfinite(steps) and steps > 0),
        "steps",
        steps,
        "set trainer.max_epochs or trainer.max_steps, or use schedule 'constant'",
    )
    shape = SCHEDULES[name]
    return LambdaLR(optimizer, lambda step: shape(min(step / steps, 1.0)))
