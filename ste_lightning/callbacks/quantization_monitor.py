"""Log what the quantizers do while a network trains."""

from __future__ import annotations

import math
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from ste_lightning.callbacks.figure_logging import log_figure
from ste_lightning.callbacks.learned_numbers import learned_numbers, record_numbers
from ste_lightning.callbacks.stepping import StepCounter, latents_in, quantized_latents
from ste_lightning.convert.structure import clean_name
from ste_lightning.errors import require
from ste_lightning.functional import Surrogate
from ste_lightning.metrics import (
    DeadChannels,
    EstimatingError,
    GradientStability,
    Latent,
    LatentHistogram,
    PerLayer,
    Saturation,
    ScaleDrift,
    SignEntropy,
    latents,
    quantizer_derivative,
)

__all__ = ["REACH", "QuantizationMonitor"]

_BINARY = ("sign", "step")
_CLOSEST, _MOST = 64, 200  # by default: measured steps at least this far apart, and how many
_WEIGHTS = 4096  # of a layer, evenly spread, that its histograms count
_BINS = 41  # of the histograms

REACH = 4.0
"""Where the histograms end, in units of the mean magnitude."""


class QuantizationMonitor(L.Callback):
    """Measure the quantizers at every ``every``-th optimizer step and log what they do.

    For every layer with quantized weights, under ``quantization/NAME/LAYER``, and for the whole
    network under ``quantization/NAME``:

    - ``flip_ratio``: share of the weights that this step moved to another level;
    - ``estimating_error`` and ``gradient_stability``: ReSTE's indicators with the backward
      rule's present parameters (the first for ``sign`` and ``step`` weights); the network's
      value is the layers' sum;
    - ``no_gradient``: share of latent weights where the derivative is exactly zero;
    - ``outside_support``: share where it is at most 0.01;
    - ``sign_entropy``: in bits, of the levels;
    - ``scale_drift``: of the weights' scale since the start, in octaves;
    - ``dead_channels``: share of the input's channels on one single level in this step's
      batches (layers with quantized inputs; not inside compiled layers).

    Values go to all loggers directly, whatever ``log_every_n_steps`` says. At the end of the
    training, histograms of the latent weights and the flip ratios' history go as figures to
    those loggers that take figures.

    Args:
        every: optimizer steps between two measurements; default 64, and more where the training
            then still has 200 of them. Between them the monitor costs nothing but a comparison.
        figures: whether to draw the figures at the end; default True.
        required: whether a model without quantized weights is refused; with ``False`` it trains
            unmeasured. Default True.

    Attributes:
        history: layer -> (step, flip ratio) of every measured step.
        histograms: layer -> (step, counts), how many latent weights lie in each of 41 equal
            bins on [-4, 4] times their mean magnitude; of large layers 4096 weights are counted.
        learned: scales and thresholds of the quantizers: name
            -> what its ``values`` are, and (step, values) at all its ``points``.

    Raises:
        ConfigurationError: for ``every`` below 1; at the start of training for a model without
            quantized weights, unless ``required=False``.
    """

    def __init__(
        self, every: int | None = None, figures: bool = True, required: bool = True
    ) -> None:
        require(every is None or every > 0, "every", every, "use a positive integer, or None")
        self.every, self.figures, self.required = every, figures, required
        self.history: dict[str, list[tuple[int, float]]] = {}
        self.histograms: dict[str, list[tuple[int, list[int]]]] = {}
        self.learned: dict[str, Any] = {}
        self._scales: dict[str, Tensor] = {}
        self._latents: list[Latent] = []
        self._before: dict[str, Tensor] = {}
        self._hooks: list[RemovableHandle] = []
        self._metrics: dict[str, PerLayer] = {}
        self._restored: dict[str, Any] = {}

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Forget what a fit that failed may have left."""
        if stage == "fit":
            self._restored, self._before = {}, {}
            self.history, self.histograms, self.learned = {}, {}, {}

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Leave no hook behind."""
        self._stop_listening()

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Leave no hook behind."""
        self._stop_listening()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Find the latent weights; the present scales are the reference of their drift."""
        self._latents = quantized_latents(pl_module) if self.required else latents(pl_module)
        if not self._latents:
            return
        self._every = self.every or _spacing(trainer.estimated_stepping_batches)
        self._inputs = {
            clean_name(name): layer
            for name, layer in pl_module.named_modules()
            if isinstance(getattr(layer, "input_quantizer", None), nn.Module)
        }
        self._metrics = self._build(pl_module.device)
        drift = self._metrics["scale_drift"]
        drift.update({one.name: one.levels()[1] for one in self._latents})
        for name, state in self._restored.get("scales", {}).items():
            if name in drift.layers:
                drift.layer(name).load_state_dict(state)
                drift.layer(name).to(pl_module.device)
        self.history = self._restored.get("history", {})
        self.histograms = self._restored.get("histograms", {})
        self.learned = self._restored.get("learned", {})
        self._restored = {}
        self._steps = StepCounter(trainer)

    def _build(self, device: torch.device) -> dict[str, PerLayer]:
        names = [one.name for one in self._latents]
        binary = [one.name for one in self._latents if _is_binary(one.quantizer)]
        # Weights and their gradients are the same on every rank: nothing to gather.
        same = {"sync_on_compute": False}
        metrics = {
            "gradient_stability": PerLayer(GradientStability(**same), names, "sum"),
            "no_gradient": PerLayer(Saturation(**same), names),
            "outside_support": PerLayer(Saturation(0.01, **same), names),
            "sign_entropy": PerLayer(SignEntropy(**same), names),
            "scale_drift": PerLayer(ScaleDrift(**same), names),
        }
        if binary:
            metrics["estimating_error"] = PerLayer(EstimatingError(**same), binary, "sum")
        if self._inputs:
            metrics["dead_channels"] = PerLayer(DeadChannels(), self._inputs)
            for name, layer in self._inputs.items():
                dead = metrics["dead_channels"].layer(name)
                dead.channel_dim = 1 if isinstance(layer, nn.modules.conv._ConvNd) else -1
        return {name: metric.to(device) for name, metric in metrics.items()}

    def _due(self, trainer: L.Trainer) -> bool:
        return bool(self._latents) and (trainer.global_step + 1) % self._every == 0

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Listen to the quantized inputs of the batches that make up a measured step."""
        if self._due(trainer) and not self._hooks:
            for name, layer in self._inputs.items():
                quantizer = layer.input_quantizer
                assert isinstance(quantizer, nn.Module)
                self._hooks.append(quantizer.register_forward_hook(self._listener(name)))

    def _stop_listening(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def _listener(self, name: str) -> Any:
        def listen(module: nn.Module, inputs: Any, output: Tensor) -> None:
            if module.training:  # not a validation in the middle of an accumulation
                self._metrics["dead_channels"].update({name: output})

        return listen

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer
    ) -> None:
        """Remember the levels before a measured step, and take its gradients."""
        if self._due(trainer):
            found = latents_in(optimizer, self._latents)
            self._before |= {one.name: one.levels()[0] for one in found}
            gradients = {
                one.name: one.weight.grad
                for one in found
                if one.weight.grad is not None and one.weight.numel() > 1
            }
            self._metrics["gradient_stability"].update(gradients)

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Measure and log after a measured step."""
        if not self._latents or not self._steps.advanced(trainer) or not self._before:
            return
        self._stop_listening()
        values = self._flip_ratios(self._measure())
        for key, metric in self._metrics.items():
            if key == "dead_channels" and not metric.sizes.any():
                continue  # compiled layers call no hooks
            layers = metric.compute()
            whole = layers.pop("all")
            values[f"quantization/{key}"] = float(whole)
            values |= {f"quantization/{key}/{name}": float(v) for name, v in layers.items()}
            metric.reset()
        step = trainer.global_step - 1
        for name in self._before:
            ratio = values[f"quantization/flip_ratio/{name}"]
            self.history.setdefault(name, []).append((step, ratio))
        for one in self._latents:
            self.histograms.setdefault(one.name, []).append((step, _histogram(one.weight)))
        record_numbers(self.learned, step, learned_numbers(pl_module, self._scales))
        self._before = {}
        for logger in trainer.loggers:
            logger.log_metrics(values, step=step)

    def _flip_ratios(self, flips: dict[str, Tensor]) -> dict[str, float]:
        numbers = {name: int(count) for name, count in flips.items()}
        sizes = {name: self._before[name].numel() for name in flips}
        values = {f"quantization/flip_ratio/{n}": numbers[n] / sizes[n] for n in flips}
        return {"quantization/flip_ratio": sum(numbers.values()) / sum(sizes.values()), **values}

    @torch.no_grad()
    def _measure(self) -> dict[str, Tensor]:
        """Update the metrics; return the number of flips in each layer that was stepped."""
        flips = {}
        for one in self._latents:
            levels, scale = one.levels()
            weight = one.weight.detach()
            derivative = quantizer_derivative(one.quantizer, weight)
            if one.name in self._before:
                flips[one.name] = (levels != self._before[one.name]).count_nonzero()
            self._update("no_gradient", one, derivative)
            self._update("outside_support", one, derivative)
            self._update("sign_entropy", one, levels)
            self._update("scale_drift", one, scale)
            self._scales[one.name] = scale
            if _is_binary(one.quantizer):
                rule = one.quantizer.rule
                assert isinstance(rule, Surrogate)
                self._update("estimating_error", one, weight, rule, levels)
        return flips

    def _update(self, key: str, one: Latent, *arguments: Any) -> None:
        self._metrics[key].update({one.name: arguments})

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw the figures, on the first rank only."""
        self._stop_listening()
        if not (self._latents and self.figures and trainer.is_global_zero and trainer.loggers):
            return
        from ste_lightning.figures.quantization import flip_ratio_figure, latent_histogram_figure

        shares, saturated = {}, {}
        for one in self._latents:
            scale = float(one.weight.detach().abs().mean()) or 1.0
            histogram = LatentHistogram(limit=4.0).to(one.weight.device)
            histogram.update(one.weight / scale)
            shares[one.name] = histogram.compute().cpu().numpy()
            derivative = quantizer_derivative(one.quantizer, one.weight)
            saturated[one.name] = float((derivative == 0).float().mean())
        edges = histogram.edges.numpy()
        figures = {"latent_weights": latent_histogram_figure(shares, edges, saturated)}
        if self.history:
            figures["flip_ratio"] = flip_ratio_figure(self.history)
        for logger in trainer.loggers:
            for name, figure in figures.items():
                log_figure(logger, f"quantization/{name}", figure, trainer.global_step)

    def state_dict(self) -> dict[str, Any]:
        """Return the reference scales and what was recorded."""
        drift = self._metrics.get("scale_drift")
        names = () if drift is None else drift.layers
        scales = {name: drift.layer(name).state_dict() for name in names} if drift else {}
        recorded = {"history": self.history, "histograms": self.histograms}
        return {"scales": scales, **recorded, "learned": self.learned}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the state until training starts."""
        self._restored = dict(state_dict)


def _spacing(steps: float) -> int:
    """Return the default distance of measured steps for the training's expected length."""
    return max(_CLOSEST, int(steps) // _MOST) if 0 < steps < math.inf else _CLOSEST


@torch.no_grad()
def _histogram(weight: Tensor) -> list[int]:
    """Count latent weights, in units of their mean magnitude."""
    taken = weight.detach().flatten()[:: max(1, weight.numel() // _WEIGHTS)]
    share = (taken / taken.abs().mean().clamp(min=1e-30)).float().clamp(-REACH, REACH)
    return [int(count) for count in share.histc(_BINS, -REACH, REACH).tolist()]


def _is_binary(quantizer: nn.Module) -> bool:
    rule = getattr(quantizer, "rule", None)
    return isinstance(rule, Surrogate) and getattr(quantizer, "map_name", "") in _BINARY
