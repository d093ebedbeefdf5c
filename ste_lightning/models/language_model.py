"""Next-token training of any network that returns logits for every place."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from ste_lightning.errors import require
from ste_lightning.models.optimization import check_specification, optimization
from ste_lightning.models.specified import given_network

__all__ = ["LanguageModel"]

DEFAULT_OPTIMIZER = {"name": "adamw", "lr": 3e-3, "schedule": "cosine", "warmup": 0.05}


class LanguageModel(L.LightningModule):
    r"""Cross-entropy of the next character, and bits per character.

    Logs ``train/loss`` and, for ``val`` and ``test``, ``loss`` (nats) and

    .. math:: bits\_per\_character = -\frac{1}{N} \sum_i \log_2 p(x_i \mid x_{<i}) ,

    averaged over all characters of the part; the context is what stands before a character in
    its piece of the text.

    Args:
        network: a module that maps integers (batch, length) to logits (batch, length, characters),
            or its specification as in :class:`~ste_lightning.models.Classifier`.
        optimizer: as there; default AdamW, 3e-3, cosine after 5 % of warm-up.
        label_smoothing: weight of the uniform distribution in the training's targets.

    Raises:
        ConfigurationError: for an unknown optimizer or schedule, a specification that cannot be
            built, and (when the first batch arrives) a network with fewer characters than the
            text, or with outputs of another shape.
    """

    def __init__(
        self,
        network: nn.Module | Mapping[str, Any],
        optimizer: Mapping[str, Any] | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        require(0 <= label_smoothing < 1, "label_smoothing", label_smoothing, "use 0 to below 1")
        self.optimizer_spec = dict(DEFAULT_OPTIMIZER if optimizer is None else optimizer)
        check_specification(self.optimizer_spec)
        plain = {"optimizer": self.optimizer_spec, "label_smoothing": label_smoothing}
        self.network = given_network(network, plain)
        self.save_hyperparameters(plain)
        self.label_smoothing = label_smoothing

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits, shape (batch, length, characters)."""
        logits: Tensor = self.network(tokens)
        return logits

    def on_fit_start(self) -> None:
        """Refuse a network that does not know all characters of the text."""
        self._check_vocabulary()

    def on_test_start(self) -> None:
        """As before training."""
        self._check_vocabulary()

    def _check_vocabulary(self) -> None:
        needed = len(getattr(getattr(self.trainer, "datamodule", None), "vocabulary", ()))
        table = next((m for m in self.network.modules() if isinstance(m, nn.Embedding)), None)
        if table is not None:
            require(
                table.num_embeddings >= needed,
                "model.network.vocabulary",
                table.num_embeddings,
                f"the text has {needed} different characters",
            )

    def _loss(self, batch: tuple[Tensor, Tensor], smoothing: float = 0.0) -> Tensor:
        tokens, targets = batch
        logits = self(tokens)
        require(
            logits.shape[:-1] == targets.shape,
            "network",
            type(self.network).__name__,
            f"it returns shape {tuple(logits.shape)}, expected {(*targets.shape, 'characters')}",
        )
        return F.cross_entropy(
            logits.flatten(0, 1).float(), targets.flatten(), label_smoothing=smoothing
        )

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the loss of one batch."""
        loss = self._loss(batch, self.label_smoothing)
        size = len(batch[1])
        self.log("train/loss", loss, on_step=False, on_epoch=True, batch_size=size, sync_dist=True)
        return loss

    def _evaluate(self, batch: tuple[Tensor, Tensor], stage: str) -> None:
        loss, size = self._loss(batch), batch[1].numel()
        self.log(f"{stage}/loss", loss, batch_size=size, sync_dist=True)
        bits = loss / math.log(2)
        name = f"{stage}/bits_per_character"
        self.log(name, bits, prog_bar=True, batch_size=size, sync_dist=True)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Log loss and bits per character of the validation part."""
        self._evaluate(batch, "val")

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Log loss and bits per character of the test part."""
        self._evaluate(batch, "test")

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return the optimizer and its schedule, stepped after every batch."""
        return optimization(self.optimizer_spec, self, self.trainer)

    @torch.no_grad()
    def continued(self, tokens: Tensor, count: int, seed: int = 0) -> Tensor:
        """Return ``tokens`` (batch, length) and ``count`` characters drawn after them.

        Args:
            tokens: the beginning, one character at least.
            count: how many to draw.
            seed: of the draws.
        """
        require(tokens.dim() == 2 and tokens.shape[1] > 0, "tokens", tuple(tokens.shape),
                "give (batch, length) with one character or more")  # fmt: skip
        place = getattr(getattr(self.network, "embedding", None), "place", None)
        longest = tokens.shape[1] + count if place is None else len(place)
        generator = torch.Generator(tokens.device).manual_seed(seed)
        for _ in range(count):
            probabilities = self(tokens[:, -longest:])[:, -1].softmax(-1)
            drawn = torch.multinomial(probabilities, 1, generator=generator)
            tokens = torch.cat([tokens, drawn], 1)
        return tokens
