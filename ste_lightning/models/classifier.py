"""A classifier around any torch network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from ste_lightning.errors import require
from ste_lightning.models.optimization import check_specification, optimization
from ste_lightning.models.specified import given_network

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
        optimizer: ``name`` (adam, adamw, nadam, radam, rmsprop, sgd, bop), ``schedule``
            (constant, linear, cosine, multi_step, one_cycle; per step) and its keys (``warmup``,
            ``milestones``, ``factor``), ``epochs`` (length of the schedule; default that of the
            training), the optimizer's own arguments, and what tells latent weights and scales
            from the rest, see :func:`~ste_lightning.models.optimization.optimization`. With a
            length of its own a training of fewer epochs is the beginning of a longer one, and
            can go on as that. Default: Adam, 1e-3, cosine.
        label_smoothing: weight of the uniform distribution in the targets.
        channels_last: keep images and convolution kernels with the channels last in memory. It
            changes no number but by rounding; on CPUs convolutions in bfloat16 become two to
            three times as fast by it (see docs/train.md).

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
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        require(classes > 1, "classes", classes, "use two or more")
        require(0 <= label_smoothing < 1, "label_smoothing", label_smoothing, "use 0 to below 1")
        self.classes = classes
        self.optimizer_spec = dict(DEFAULT_OPTIMIZER if optimizer is None else optimizer)
        check_specification(self.optimizer_spec)
        plain: dict[str, Any] = {
            "classes": classes,
            "optimizer": self.optimizer_spec,
            "label_smoothing": label_smoothing,
            "channels_last": channels_last,
        }
        self.network = given_network(network, plain)
        self.channels_last = channels_last
        if channels_last:
            self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
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
        if self.channels_last and inputs.dim() == 4:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
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
        self.log_dict(scores, prog_bar=True, batch_size=len(batch[1]))

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Log loss, accuracy and F1 of the validation part."""
        self._evaluate(batch, "val", self.val_scores)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Log loss, accuracy and F1 of the test part."""
        self._evaluate(batch, "test", self.test_scores)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return the optimizer and its schedule, stepped after every batch."""
        return optimization(self.optimizer_spec, self, self.trainer)
