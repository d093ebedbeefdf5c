"""The theory's recurrence statistics for any network in training."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from torch import Tensor

from ste_lightning.callbacks.stepping import StepCounter, quantized_latents
from ste_lightning.errors import require
from ste_lightning.metrics import FlipRatio, Latent, OscillationFrequency
from ste_lightning.metrics.patterns import PatternHistory, pattern_keys, pattern_number

__all__ = ["RecurrenceMonitor"]


class RecurrenceMonitor(L.Callback):
    """Watch whole layers' sign patterns: do they flip, escape, return, oscillate?

    In the teacher-student theory the iterates reach the teacher's signs, escape and return. In
    any other network each pattern that was visited takes the teacher's place. After every
    optimizer step each layer's pattern is reduced to one number on its device; every ``every``
    steps the numbers come to the host and these values go to all loggers, under
    ``recurrence/NAME/LAYER``, and their means over the layers under ``recurrence/NAME``:

    - ``flip_ratio``: share of the weights that changed their level, mean over the steps since;
    - ``escape_rate``, ``return_rate``, ``return_time``, ``distinct``, ``favourite``: since the
      beginning, see :class:`ste_lightning.metrics.patterns.PatternHistory`;
    - ``oscillating``: share of weights with Nagel's frequency above 0.005.

    Args:
        every: steps between two logged values; default 50.
        longest: patterns to remember per layer; default 4096.

    Raises:
        ConfigurationError: for a value out of range; at the start of training for a model
            without quantized weights.

    Source: arXiv 2505.18113 v2 (recurrence); Nagel et al. 2022, arXiv 2203.11086 (oscillation).
    """

    def __init__(self, every: int = 50, longest: int = 4096) -> None:
        require(every > 0, "every", every, "use a positive integer")
        require(longest > 1, "longest", longest, "use an integer above 1")
        self.every, self.longest = every, longest
        self._layers: dict[str, _Layer] = {}
        self._restored: dict[str, Any] = {}

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Forget what a fit that failed may have left."""
        if stage == "fit":
            self._restored = {}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Find the latent weights; their patterns before the first step are the reference."""
        self._layers = {
            one.name: _Layer(one, self.longest, seed)
            for seed, one in enumerate(quantized_latents(pl_module))
        }
        for name, layer in self._layers.items():
            if name in self._restored:
                layer.load_state_dict(self._restored[name])
            else:
                layer.step()
        self._restored = {}
        self._steps = StepCounter(trainer)

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Track every step, log now and then."""
        if not self._steps.advanced(trainer):
            return
        for layer in self._layers.values():
            layer.step()
        if trainer.global_step % self.every == 0:
            values = self._log_values()
            for logger in trainer.loggers:
                logger.log_metrics(values, step=trainer.global_step - 1)

    def _log_values(self) -> dict[str, float]:
        summaries = self.statistics()
        values: dict[str, float] = {}
        for name, summary in summaries.items():
            values |= {f"recurrence/{key}/{name}": value for key, value in summary.items()}
        for key in next(iter(summaries.values())):
            known = [s[key] for s in summaries.values() if s[key] == s[key]]
            values[f"recurrence/{key}"] = sum(known) / len(known) if known else float("nan")
        for layer in self._layers.values():
            layer.flips.reset()
        return values

    def statistics(self) -> dict[str, dict[str, float]]:
        """Return each layer's values by layer and name."""
        return {name: layer.summary() for name, layer in self._layers.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return the histories by layer."""
        return {name: layer.state_dict() for name, layer in self._layers.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the state until training starts."""
        self._restored = dict(state_dict)


class _Layer:
    """One layer's metrics; pattern numbers wait on the device until someone asks."""

    def __init__(self, latent: Latent, longest: int, seed: int) -> None:
        device = latent.weight.device
        self.latent = latent
        self.keys = pattern_keys(latent.weight.numel(), seed).to(device)
        self.history = PatternHistory(longest)
        self.flips = FlipRatio(sync_on_compute=False).to(device)
        self.oscillation = OscillationFrequency(sync_on_compute=False).to(device)
        self._waiting: list[Tensor] = []

    def step(self) -> None:
        levels, _ = self.latent.levels()
        self._waiting.append(pattern_number(levels, self.keys))
        self.flips.update(levels)
        self.oscillation.update(levels)

    def flush(self) -> None:
        if self._waiting:
            for number in torch.stack(self._waiting).tolist():
                self.history.update(number)
            self._waiting = []

    def summary(self) -> dict[str, float]:
        self.flush()
        return {
            "flip_ratio": float(self.flips.flipped / self.flips.updates.clamp(min=1)),
            **self.history.summary(),
            "oscillating": float(self.oscillation.compute()),
        }

    def state_dict(self) -> dict[str, Any]:
        self.flush()
        return {
            "history": self.history.state_dict(),
            "flips": self.flips.state_dict(),
            "oscillation": self.oscillation.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.history.load_state_dict(state["history"])
        self.flips.load_state_dict(state["flips"])
        self.oscillation.load_state_dict(state["oscillation"])
        self.flips.to(self.latent.weight.device)
        self.oscillation.to(self.latent.weight.device)
