"""Optimizers and schedules from plain dictionaries, so that they can live in a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from ste_lightning.errors import ConfigurationError, require, unknown

__all__ = ["build_optimizer", "build_schedule"]

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
            ``{"name": "adam", "lr": 1e-3}``. The key ``schedule`` is not the optimizer's.
        parameters: what to optimize, or a list of parameter groups.

    Raises:
        ConfigurationError: for an unknown name or an argument the optimizer refuses.
    """
    arguments = {key: value for key, value in spec.items() if key not in ("name", "schedule")}
    name = str(spec.get("name", "adam"))
    if name not in OPTIMIZERS:
        raise unknown("optimizer", name, OPTIMIZERS)
    try:
        return OPTIMIZERS[name](parameters, **arguments)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"optimizer {name!r} with {arguments}: {error}.") from error


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
