"""The majority vote of a quantized weight's levels over the steps, in place of the last iterate."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from ste_lightning.callbacks.batch_norm_reestimation import reestimate_within_fit
from ste_lightning.callbacks.stepping import (
    StepCounter,
    quantized_latents,
    share_done,
    steps_of_training,
)
from ste_lightning.callbacks.trainer_checks import averaging_callbacks
from ste_lightning.errors import ConfigurationError, require, unknown
from ste_lightning.metrics import Latent
from ste_lightning.quantizers import bits_of

__all__ = ["SignAveraging", "vote"]


@torch.no_grad()
def vote(latent: Latent, mean: Tensor) -> Tensor:
    r"""Return latent weights that the layer's quantizer maps to the voted levels.

    .. math:: q_i = \operatorname{sign}(m_i) \text{ for one bit}, \quad
        q_i = \operatorname{round}(m_i) \text{ for more}

    where m is the mean of the integer levels; a binary weight whose votes are equal keeps its
    present sign. The result is :math:`q_i` times the quantizer's present scale, so that a scale
    that is made of the weights (mean magnitude, ...) stays what it is.

    Args:
        latent: the weight and its quantizer.
        mean: mean of its levels, in the weight's shape.

    Raises:
        ConfigurationError: if the quantizer maps them elsewhere, as one whose levels are unevenly
            spaced may.
    """
    now, scale = latent.levels()
    if bits_of(latent.quantizer) <= 1:
        levels = torch.where(mean == 0, now, mean.sign().to(now.dtype))
    else:
        levels = mean.round().to(now.dtype)
    weight = latent.weight
    kept = weight.detach().clone()
    try:
        voted = (levels * scale).to(kept.dtype)
        for _ in range(4):  # a scale that is made of the weights follows them
            weight.copy_(voted)
            found, scale_now = latent.levels()
            ratio = torch.where(scale_now > 0, scale / scale_now, torch.ones_like(scale_now))
            if bool((found == levels).all()) and bool(((ratio - 1).abs() < 1e-6).all()):
                break
            voted = (voted * ratio).to(kept.dtype)
    finally:
        weight.copy_(kept)
    if not bool((found == levels).all()):
        name = getattr(latent.quantizer, "map_name", type(latent.quantizer).__name__)
        raise ConfigurationError(
            f"SignAveraging cannot be used with layer {latent.name!r}: its map {name!r} does not "
            "keep the voted levels. Use evenly spaced levels (sign, ternary, lsq, uniform, ...)."
        )
    return voted


class SignAveraging(L.Callback):
    r"""Evaluate, keep and deploy the majority vote of signs over the steps.

    From ``begin`` on, every quantized weight keeps the mean of its integer levels,

    .. math:: m_t = m_{t-1} + (q(w_t) - m_{t-1}) / n_t \quad\text{or}\quad
        m_t = d\, m_{t-1} + (1 - d)\, q(w_t),

    and its vote is the level next to that mean: for binary weights the sign that it had most of
    the time. In the two-layer model of the paper the vote needs the fewest samples, as signs
    go on flipping around the solution while their majority stands still. Validation within the
    training, checkpoints and the module after the training have the vote in place of the latent
    weights, with batch norm's statistics estimated for it; the training itself is not changed.
    Checkpoints hold the latent weights as well, so that training resumes exactly.

    Args:
        begin: part of the training (a fraction of its steps) after which votes count; default
            0.5.
        decay: d of the exponential mean; default None, every vote counts alike.
        of: what is averaged: ``"signs"`` (for more bits the levels), or ``"latents"``, the latent
            weights themselves, as other weight averaging does, to compare with. Of parameters
            that are not quantized the last iterate is kept.
        batches: training batches from which batch norm's statistics are estimated for the vote,
            an epoch's at most; 0 leaves the statistics of the last iterate. Default 50.

    Raises:
        ConfigurationError: for values out of range; at the start of training for a model without
            quantized weights, a training without an end, a map that does not keep voted levels, or
            beside a callback that averages weights itself (EMA, SWA).

    Source: the averaged iterate of Jeong et al. 2025, arXiv 2505.18113 (ergodic bound), for any
    network.
    """

    _KEY = "sign_averaging"

    def __init__(
        self,
        begin: float = 0.5,
        decay: float | None = None,
        of: str = "signs",
        batches: int = 50,
    ) -> None:
        require(0 <= begin < 1, "begin", begin, "use a fraction in [0, 1)")
        require(decay is None or 0 < decay < 1, "decay", decay, "use a number in (0, 1) or None")
        require(type(batches) is int and batches >= 0, "batches", batches, "use 0 or more")
        if of not in ("signs", "latents"):
            raise unknown("of", of, ("signs", "latents"))
        self.begin, self.decay, self.of, self.batches = begin, decay, of, batches
        self._restored: dict[str, Any] = {}
        self._forget()

    def _forget(self) -> None:
        self._latents: list[Latent] = []
        self._means: dict[str, Tensor] = {}
        self._count = 0
        self._evaluated: dict[str, Tensor] = {}  # the vote and batch norm's statistics for it
        self._evaluated_step = -1
        self._last_iterate: dict[str, Tensor] = {}  # what the vote stands in for

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Forget what an earlier fit may have left."""
        if stage == "fit":
            self._restored = {}
            self._forget()
            others = averaging_callbacks(trainer)
            if others:
                raise ConfigurationError(
                    f"callbacks=[{type(self).__name__}, {others[0]}] cannot be used together: each "
                    "puts its average in the place of the weights, and the later one would undo "
                    "the vote. Leave one of them out."
                )

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Find the weights, and take up the state of an interrupted run."""
        self._total = steps_of_training(trainer, "votes begin after a part of the training")
        self._latents = quantized_latents(pl_module)
        for latent in self._latents:  # refused now rather than after the training
            self._voted_weight(latent, self._counted(latent))
        self._steps = StepCounter(trainer)
        self._count = int(self._restored.get("count", 0))
        self._means = {
            one.name: self._restored["means"][one.name].to(one.weight.device)
            for one in self._latents
            if self._count
        }
        self._restored = {}

    @torch.no_grad()
    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Count the votes after every optimizer step."""
        stepped = self._steps.advanced(trainer)
        if not stepped or share_done(trainer, pl_module, self._total) <= self.begin:
            return
        self._count += 1
        share = 1 / self._count if self.decay is None else 1 - self.decay
        for latent in self._latents:
            counted = self._counted(latent)
            if self._count == 1:
                self._means[latent.name] = counted
            elif self.decay is None and self.of == "signs":
                # The sum is a whole number: rounding errors must not decide between equal votes.
                mean = self._means[latent.name].mul_(self._count - 1).round_()
                mean.add_(counted).div_(self._count)
            else:
                self._means[latent.name].lerp_(counted, share)

    def _counted(self, latent: Latent) -> Tensor:
        if self.of == "latents":
            return latent.weight.detach().float().clone()
        return latent.levels()[0].float()

    def _voted_weight(self, latent: Latent, mean: Tensor) -> Tensor:
        return mean.to(latent.weight.dtype) if self.of == "latents" else vote(latent, mean)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Put the vote in the latent weights' place."""
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self._vote_in(trainer, pl_module)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Put the latent weights back."""
        self._vote_out(pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leave the vote in the module."""
        if not self._count:
            rank_zero_warn(
                f"SignAveraging: the training ended at step {trainer.global_step}, before any vote "
                f"was counted, so the last iterate stays. Votes count after begin={self.begin:g} "
                f"of {self._total:g} steps: use a smaller begin, or a max_steps that is reached."
            )
        self._vote_in(trainer, pl_module)
        self._last_iterate = {}
        self._latents = []

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Leave the latent weights in a module whose training was stopped."""
        self._vote_out(pl_module)

    def _vote_in(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if not self._count or not self._latents or self._last_iterate:
            return
        own = _tensors(module, self._latents)
        self._last_iterate = {key: tensor.detach().clone() for key, tensor in own.items()}
        if self._evaluated_step == trainer.global_step:
            _copy(self._evaluated, own)
            return
        with torch.no_grad():
            for latent in self._latents:
                latent.weight.copy_(self._voted_weight(latent, self._means[latent.name]))
        if self.batches:
            reestimate_within_fit(trainer, module, self.batches)
        self._evaluated = {key: tensor.detach().clone() for key, tensor in own.items()}
        self._evaluated_step = trainer.global_step

    def _vote_out(self, module: L.LightningModule) -> None:
        if self._last_iterate:
            _copy(self._last_iterate, _tensors(module, self._latents))
            self._last_iterate = {}

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Let the checkpoint's weights be the vote; keep the latent weights beside them."""
        if not self._count or not self._latents:
            return
        training = not self._last_iterate  # otherwise the vote is being validated
        self._vote_in(trainer, pl_module)
        state, kept = checkpoint["state_dict"], self._last_iterate
        checkpoint[self._KEY] = {key: kept[key] for key in kept if key in state}
        state.update({key: self._evaluated[key] for key in checkpoint[self._KEY]})
        if training:
            self._vote_out(pl_module)

    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Give a training that goes on its latent weights."""
        if trainer.state.fn == TrainerFn.FITTING and self._KEY in checkpoint:
            _copy(checkpoint[self._KEY], pl_module.state_dict())

    def state_dict(self) -> dict[str, Any]:
        """Return the mean levels by layer and how many votes they are of."""
        return {"count": self._count, "means": dict(self._means)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the state until training starts."""
        self._restored = dict(state_dict)


def _tensors(module: L.LightningModule, latents: list[Latent]) -> dict[str, Tensor]:
    """Return by their names what differs between vote and last iterate."""
    weights = {id(one.weight) for one in latents}
    found: dict[str, Tensor] = {
        name: p for name, p in module.named_parameters(remove_duplicate=False) if id(p) in weights
    }
    for name, part in module.named_modules(remove_duplicate=False):
        if isinstance(part, _BatchNorm) and part.track_running_stats:
            for buffer, value in part.named_buffers(recurse=False):
                found[f"{name}.{buffer}"] = value
    return found


@torch.no_grad()
def _copy(values: dict[str, Tensor], into: dict[str, Any]) -> None:
    for key, value in values.items():
        into[key].copy_(value)
