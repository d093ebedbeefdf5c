"""Optimizers and schedules from plain dictionaries, so that they can live in a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import nn
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from ste_lightning.errors import ConfigurationError, require, unknown
from ste_lightning.models.schedules import Shape, schedule_shape
from ste_lightning.optim import Bop, Chained, quantizer_param_groups

__all__ = ["build_optimizer", "build_schedule", "check_specification", "optimization",
           "schedule_steps"]  # fmt: skip

OPTIMIZERS: dict[str, type[Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "nadam": torch.optim.NAdam,
    "radam": torch.optim.RAdam,
    "rmsprop": torch.optim.RMSprop,
    "sgd": torch.optim.SGD,
}
BOP = "bop"
_OF_SCHEDULES = ("schedule", "epochs", "warmup", "milestones", "factor")
_OF_GROUPS = ("latent_lr", "latent_weight_decay", "quantizer_lr")


def check_specification(spec: Mapping[str, Any]) -> None:
    """Refuse unknown optimizers and schedules, and what a schedule cannot be.

    Args:
        spec: see :class:`~ste_lightning.models.Classifier`.

    Raises:
        ConfigurationError: with the nearest name.
    """
    name = spec.get("name", "adam")
    if name not in OPTIMIZERS and name != BOP:
        raise unknown("optimizer", name, [*OPTIMIZERS, BOP])
    schedule_shape(spec)


def optimization(
    spec: Mapping[str, Any], module: nn.Module, trainer: L.Trainer
) -> OptimizerLRSchedulerConfig:
    """Return the optimizer of a module's parameters and its schedule, stepped after every batch.

    Latent weights, quantizers and the rest become groups of their own where the specification
    tells them apart: ``weight_decay`` (of weights; never of scales, thresholds, biases and
    norms), ``latent_weight_decay`` (of the weights of quantized layers; default
    ``weight_decay``), ``latent_lr`` and ``quantizer_lr`` (default ``lr``). ``name: bop`` flips
    the weights of quantized layers (``lr``, ``threshold``) and gives all others to the optimizer
    ``rest``.

    Args:
        spec: see :class:`~ste_lightning.models.Classifier`.
        module: whose parameters to train; quantized layers are in place.
        trainer: of the training.

    Raises:
        ConfigurationError: for an optimizer that cannot be built, a schedule that is too short,
            Bop without quantized layers.
    """
    optimizer = _bop(spec, module) if spec.get("name") == BOP else _grouped(spec, module)
    schedule = build_schedule(spec, optimizer, schedule_steps(spec, trainer))
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _grouped(spec: Mapping[str, Any], module: nn.Module) -> Optimizer:
    groups = {key: spec[key] for key in _OF_GROUPS if spec.get(key) is not None}
    decay = spec.get("weight_decay") or 0.0
    if not groups and not decay:
        return build_optimizer(spec, module.parameters())
    lr = float(spec.get("lr", 1e-3))
    made = quantizer_param_groups(
        module, lr, **{"weight_decay": decay, "latent_weight_decay": decay, "quantizer_lr": lr,
                       **groups}
    )  # fmt: skip
    return build_optimizer({k: v for k, v in spec.items() if k not in _OF_GROUPS}, made)


def _bop(spec: Mapping[str, Any], module: nn.Module) -> Optimizer:
    groups = {g["name"]: g["params"] for g in quantizer_param_groups(module, 1.0)}
    binary = groups.pop("latent", None)
    if binary is None:
        raise ConfigurationError(
            "optimizer 'bop' flips weights of quantized layers: there are none."
        )
    rest = spec.get("rest") or {"name": "adam", "lr": 1e-3}
    arguments = {k: v for k, v in spec.items() if k not in ("name", "rest", *_OF_SCHEDULES)}
    try:
        flips = Bop(binary, **arguments)
    except TypeError as error:
        raise _refused(BOP, arguments, error) from error
    return Chained(flips, build_optimizer(rest, [p for part in groups.values() for p in part]))


def build_optimizer(
    spec: Mapping[str, Any], parameters: Iterable[Parameter] | Iterable[dict[str, Any]]
) -> Optimizer:
    """Build an optimizer.

    Args:
        spec: ``name`` (adam, adamw, nadam, radam, rmsprop, sgd) and that class's own arguments:
            ``{"name": "adam", "lr": 1e-3}``. Keys of the schedule are not the optimizer's.
        parameters: what to optimize, or a list of parameter groups.

    Raises:
        ConfigurationError: for an unknown name or an argument the optimizer refuses.
    """
    arguments = {key: value for key, value in spec.items() if key not in ("name", *_OF_SCHEDULES)}
    name = str(spec.get("name", "adam"))
    if name not in OPTIMIZERS:
        raise unknown("optimizer", name, OPTIMIZERS)
    try:
        return OPTIMIZERS[name](parameters, **arguments)
    except (TypeError, ValueError) as error:
        raise _refused(name, arguments, error) from error


def _refused(name: str, arguments: Mapping[str, Any], error: Exception) -> ConfigurationError:
    """Return what to raise for arguments that an optimizer refuses, with the key to leave out."""
    key = next((key for key in arguments if f"argument '{key}'" in str(error)), None)
    remedy = (
        "" if key is None else f" Leave out what was set for another optimizer: ~optimizer.{key}."
    )
    return ConfigurationError(f"optimizer {name!r} with {dict(arguments)}: {error}.{remedy}")


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


def build_schedule(spec: Mapping[str, Any], optimizer: Optimizer, steps: float) -> LambdaLR:
    """Build a schedule of the learning rate over ``steps`` optimizer steps.

    Args:
        spec: ``schedule`` and its keys, see :func:`~ste_lightning.models.schedules.schedule_shape`.
        optimizer: whose rate to change.
        steps: length of the schedule; must be finite unless it is constant throughout.

    Raises:
        ConfigurationError: for an unknown name or an infinite length.
    """
    shape: Shape = schedule_shape(spec)
    constant = spec.get("schedule", "constant") == "constant" and not spec.get("warmup")
    require(
        constant or (math.isfinite(steps) and steps > 0),
        "steps",
        steps,
        "set trainer.max_epochs or trainer.max_steps, or use schedule 'constant'",
    )
    return LambdaLR(optimizer, lambda step: shape(min(step / steps, 1.0)))
