"""A classifier around any torch network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import hydra.utils
import lightning as L
import torch
from torch import Tensor, nn
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from ste_lightning.errors import ConfigurationError, require, unknown
from ste_lightning.models.optimization import (
    OPTIMIZERS,
    SCHEDULES,
    build_optimizer,
    build_schedule,
    schedule_steps,
)

if TYPE_CHECKING:  # Lightning 2.5 has another name for it
    from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig

__all__ = ["Classifier"]

DEFAULT_OPTIMIZER = {"name": "adam", "lr": 1e-3, "schedule": "cosine"}


class Classifier(L.LightningModule):
    """Cross-entropy training of any network, with accuracy and macro F1.

    Labels are class numbers (batch,) or, in training, probabilities (batch, classes) as mixed
    images have; accuracy then counts the likeliest class.

    Logs ``train/loss``, ``train/accuracy`` and, for ``val`` and ``test``, ``loss``, ``accuracy``
    and ``f1``; all are averages over an epoch.

    Args:
        network: a module that maps a batch of inputs to (batch, classes) logits, or its
            specification as a dict with ``_target_`` and arguments. A specification is kept in
            the checkpoint, which then loads by ``Classifier.load_from_checkpoint(path)`` alone;
            a module has to be passed to it again.
        classes: number of classes; labels are 0 .. classes - 1.
        optimizer: ``name`` (adam, adamw, nadam, radam, rmsprop, sgd), ``schedule`` (constant,
            linear, cosine; per step), ``epochs`` (length of the schedule; default that of the
            training) and the optimizer's own arguments. With a length of its own a training of
            fewer epochs is the beginning of a longer one, and can go on as that.
            Default: Adam, 1e-3, cosine.
        label_smoothing: weight of the uniform distribution in the targets.

    Raises:
        ConfigurationError: for an unknown optimizer or schedule, a specification that cannot be
            built, labels outside the range, inputs that are not finite, and logits of a wrong
            shape (the last three when the first batches arrive).
    """

    def __init__(
        self,
        network: nn.Module | Mapping[str, Any],
        classes: int,
        optimizer: Mapping[str, Any] | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        require(classes > 1, "classes", classes, "use two or more")
        require(0 <= label_smoothing < 1, "label_smoothing", label_smoothing, "use 0 to below 1")
        self.classes = classes
        self.optimizer_spec = dict(DEFAULT_OPTIMIZER if optimizer is None else optimizer)
        name = self.optimizer_spec.get("name", "adam")
        if name not in OPTIMIZERS:
            raise unknown("optimizer", name, OPTIMIZERS)
        schedule = self.optimizer_spec.get("schedule", "constant")
        if schedule not in SCHEDULES:
            raise unknown("schedule", schedule, SCHEDULES)
        plain: dict[str, Any] = {
            "classes": classes,
            "optimizer": self.optimizer_spec,
            "label_smoothing": label_smoothing,
        }
        if isinstance(network, nn.Module):
            self.network = network
        else:
            plain["network"] = dict(network)
            self.network = _build(network)
        self.save_hyperparameters(plain)
        self.loss = nn.CrossEntropyLoss(label_smoothing=label_smoothing)
        self.train_accuracy = MulticlassAccuracy(classes, average="micro")
        scores = MetricCollection(
            {
                "accuracy": MulticlassAccuracy(classes, average="micro"),
                "f1": MulticlassF1Score(classes, average="macro"),
            }
        )
        self.val_scores = scores.clone(prefix="val/")
        self.test_scores = scores.clone(prefix="test/")

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the logits, shape (batch, classes)."""
        logits: Tensor = self.network(inputs)
        return logits

    def _check(self, inputs: Tensor, labels: Tensor, logits: Tensor) -> None:
        require(
            logits.shape == (len(labels), self.classes),
            "network",
            type(self.network).__name__,
            f"it returns shape {tuple(logits.shape)}, expected {(len(labels), self.classes)}",
        )
        require(bool(torch.isfinite(inputs).all()), "inputs", "nan or inf", "clean the data first")
        if labels.is_floating_point():
            require(
                labels.shape == logits.shape,
                "labels",
                tuple(labels.shape),
                f"probabilities must have the shape {tuple(logits.shape)}",
            )
            return
        low, high = int(labels.min()), int(labels.max())
        require(
            low >= 0 and high < self.classes,
            "labels",
            f"{low}..{high}",
            f"use 0..{self.classes - 1} or raise classes={self.classes}",
        )

    def _loss(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        inputs, labels = batch
        logits = self(inputs)
        if self.current_epoch == 0:  # later epochs see the same data; on a GPU a check waits
            self._check(inputs, labels, logits)
        return self.loss(logits, labels), logits

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the loss of one batch."""
        loss, logits = self._loss(batch)
        labels = batch[1].argmax(1) if batch[1].is_floating_point() else batch[1]
        self.train_accuracy.update(logits, labels)
        size = len(batch[1])
        self.log("train/loss", loss, on_step=False, on_epoch=True, batch_size=size, sync_dist=True)
        self.log(
            "train/accuracy", self.train_accuracy, on_step=False, on_epoch=True, batch_size=size
        )
        return loss

    def _evaluate(self, batch: tuple[Tensor, Tensor], stage: str, scores: MetricCollection) -> None:
        loss, logits = self._loss(batch)
        scores.update(logits, batch[1])
        self.log(f"{stage}/loss", loss, batch_size=len(batch[1]), sync_dist=True)
        self.log_dict(scores, batch_size=len(batch[1]))

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Log loss, accuracy and F1 of the validation part."""
        self._evaluate(batch, "val", self.val_scores)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Log loss, accuracy and F1 of the test part."""
        self._evaluate(batch, "test", self.test_scores)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return the optimizer and its schedule, stepped after every batch."""
        optimizer = build_optimizer(self.optimizer_spec, self.parameters())
        name = str(self.optimizer_spec.get("schedule", "constant"))
        steps = schedule_steps(self.optimizer_spec, self.trainer)
        schedule = build_schedule(name, optimizer, steps)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


def _build(spec: Mapping[str, Any]) -> nn.Module:
    require("_target_" in spec, "network", dict(spec), "name its class as _target_")
    _refuse_other_than_modules(spec)
    try:
        network = hydra.utils.instantiate(dict(spec), _convert_="all")
    except Exception as error:
        cause = error.__cause__ or error
        if isinstance(cause, ConfigurationError):
            raise cause from error
        raise ConfigurationError(f"network={dict(spec)} cannot be built: {cause}") from error
    require(
        isinstance(network, nn.Module),
        "network",
        dict(spec),
        "its _target_ must make a torch module",
    )
    built: nn.Module = network
    return built


def _refuse_other_than_modules(spec: Any) -> None:
    """Let a checkpoint's specification name torch modules only, not any callable.

    A checkpoint may come from anywhere, and ``_target_`` would be called with its arguments.
    """
    if isinstance(spec, Mapping):
        if "_target_" in spec:
            try:
                target = hydra.utils.get_object(str(spec["_target_"]))
            except Exception as error:
                raise ConfigurationError(
                    f"network={dict(spec)} cannot be built: {error}"
                ) from error
            require(
                isinstance(target, type) and issubclass(target, nn.Module),
                "_target_",
                spec["_target_"],
                "name a torch module class, or pass network= as a module",
            )
        spec = list(spec.values())
    if isinstance(spec, (list, tuple)):
        for part in spec:
            _refuse_other_than_modules(part)
