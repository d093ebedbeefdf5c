"""Keep latent weights where the clipped straight-through gradient is not zero."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from torch import Tensor

from ste_lightning.errors import require

__all__ = ["LatentClipping"]


class LatentClipping(L.Callback):
    r"""Clip the latent weights of quantized layers after every optimizer step.

    .. math:: w \leftarrow \min(\max(w, -c), c)

    Without it a latent weight that leaves [-c, c] under a clipped rule receives no gradient any
    more and its sign never changes again. Only layers that have a weight quantizer are clipped,
    and of them not the frozen ones.

    Source: M. Courbariaux et al., Binarized Neural Networks (2016), section 1.

    Args:
        width: c, the largest absolute value; as wide as the rule's own window.

    Raises:
        ConfigurationError: for a width <= 0.
    """

    def __init__(self, width: float = 1.0) -> None:
        require(width > 0, "width", width, "use a positive number")
        self.width = width

    @torch.no_grad()
    def _clip(self, module: L.LightningModule) -> None:
        for layer in module.modules():
            if getattr(layer, "weight_quantizer", None) is None:
                continue
            weight = getattr(layer, getattr(layer, "latent_key", "weight"), None)
            if isinstance(weight, Tensor) and weight.requires_grad:
                weight.clamp_(-self.width, self.width)

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Clip after the step; a step of accumulation without an update changes nothing."""
        self._clip(pl_module)
