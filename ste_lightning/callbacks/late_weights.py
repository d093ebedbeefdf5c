"""Two-step training in one run: inputs are quantized from the beginning, weights later."""

from __future__ import annotations

from typing import Any

import lightning as L
from lightning.pytorch.strategies import DDPStrategy

from ste_lightning.callbacks.quantization_aware_training import QuantizationAwareTraining
from ste_lightning.callbacks.stepping import share_done, steps_of_training
from ste_lightning.convert.watch import named_quantized_layers
from ste_lightning.errors import require
from ste_lightning.layers import QuantizedLayer

__all__ = ["LateWeights"]


class LateWeights(L.Callback):
    """Train with float weights and quantized inputs first; then the weights join.

    Only training steps see float weights: validation, tests and checkpoints have the quantized
    network all along, so that the best checkpoint is one of the second step. Learned scales of
    weights start anew from the weights that the first step has left. The learning rate's schedule
    goes on: for one that begins again, train twice (``init_from``).

    Args:
        begin: part of the training (a fraction of its steps) after which the weights are
            quantized too; default 0.5.

    Raises:
        ConfigurationError: for a fraction outside [0, 1); when a fit begins without an end,
            without a layer whose weights and inputs are both quantized, or beside a
            ``QuantizationAwareTraining`` with a ``start_epoch``; under DDP with learned scales of
            weights, which get no gradient at first, unless the strategy is
            ``"ddp_find_unused_parameters_true"``.

    Source: B. Martinez et al., Training Binary Neural Networks with Real-to-Binary Convolutions
    (2020), section 4.3; Z. Liu et al., ReActNet (2020), section 4.2.
    """

    def __init__(self, begin: float = 0.5) -> None:
        require(0 <= begin < 1, "begin", begin, "use a fraction in [0, 1)")
        self.begin = begin
        self._layers: list[QuantizedLayer] = []
        self._steps = 1.0
        self._joined = False

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Forget what an earlier fit may have left."""
        if stage == "fit":
            self._joined = False

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Find the layers, and learn how long training is."""
        self._layers = [
            layer
            for _, layer in named_quantized_layers(pl_module)
            if layer.weight_quantizer is not None
        ]
        require(
            any(layer.input_quantizer is not None for layer in self._layers),
            "model",
            type(pl_module).__name__,
            "no layer has a weight and an input quantizer, so nothing is quantized in the first "
            "step; choose another quantizer, or leave the callback out",
        )
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            later = isinstance(callback, QuantizationAwareTraining) and callback.start_epoch > 0
            require(
                not later,
                "begin",
                self.begin,
                "QuantizationAwareTraining(start_epoch=...) begins in float: use one of the two",
            )
        learned = any(
            p.requires_grad
            for layer in self._layers
            if layer.weight_quantizer is not None
            for p in layer.weight_quantizer.parameters()
        )
        strategy = trainer.strategy
        if learned and self.begin > 0 and isinstance(strategy, DDPStrategy):
            require(
                bool(strategy._ddp_kwargs.get("find_unused_parameters")),
                "begin",
                self.begin,
                "learned scales of weights get no gradient before it, which DDP only allows with "
                "strategy='ddp_find_unused_parameters_true'",
            )
        self._steps = steps_of_training(trainer, "weights join at a share of the training")

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Let this step see float weights, or let the weights join."""
        if self._joined:
            return
        if share_done(trainer, pl_module, self._steps) < self.begin:
            self._switch(False)
            return
        self._joined = True
        for layer in self._layers:
            initialize = getattr(layer.weight_quantizer, "initialize", None)
            if self.begin > 0 and initialize is not None:
                initialize(layer.latent_weight().detach())

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Let everything but training steps see the quantized network."""
        if not self._joined:
            self._switch(True)

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Leave no switched-off layer behind."""
        self._switch(True)

    def _switch(self, on: bool) -> None:
        for layer in self._layers:
            if on:
                vars(layer).pop("weight_quantization", None)
            else:
                layer.weight_quantization = False

    def state_dict(self) -> dict[str, Any]:
        """Return whether the weights have joined."""
        return {"joined": self._joined}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on in the step in which the checkpoint was made."""
        self._joined = bool(state_dict["joined"])
