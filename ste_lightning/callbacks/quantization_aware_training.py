"""Quantization-aware training of any LightningModule by one callback."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import BaseFinetuning
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor, nn

from ste_lightning.callbacks.batch_norm_at_end import reestimate_from_training_data
from ste_lightning.callbacks.finite_check import FiniteCheck
from ste_lightning.callbacks.first_batches import FirstBatches
from ste_lightning.callbacks.recorded_layers import refuse_another_checkpoint
from ste_lightning.callbacks.stepping import share_done
from ste_lightning.callbacks.swap_at_setup import cancel_swap, convert_module, swap_at_setup
from ste_lightning.callbacks.trainer_checks import (
    refuse_earlier_copies,
    refuse_unused_scales,
    warn_of_averaged_signs,
    warn_of_own_processes,
)
from ste_lightning.convert import Calibration, Finding, Policy, Report, dead_weights, lost_zeros
from ste_lightning.convert.scheduled import with_schedule
from ste_lightning.convert.watch import collapsed_steps, named_quantized_layers
from ste_lightning.errors import require

__all__ = ["QuantizationAwareTraining"]


class QuantizationAwareTraining(L.Callback):
    """Trains a float LightningModule with quantized layers; nothing in the module changes.

    The layers named by ``policy`` become quantized when training, validation, testing or
    prediction is set up: before optimizers are made and checkpoints restored, and after
    ``configure_model`` where the module makes its layers there. ``forward`` is never touched,
    and at the end of training the model stays as it is: its state dict holds the latent weights
    under the float model's keys. ``ste_lightning.deploy`` makes the packed copy.

    Checkpoints resume to the bit: schedules and learned scales are in the model's state dict.
    ``Trainer.test(module, ckpt_path=...)`` and ``fit(ckpt_path=...)`` need this callback in the
    trainer; for a checkpoint without a trainer see
    :func:`~ste_lightning.callbacks.load_quantized`, which reads the policy from it.

    Args:
        policy: ordered rules ``{match, weight, input, relu, pad_value, score}``, see
            :func:`ste_lightning.convert.quantize_`.
        schedule: what drives the quantizers over training, as the ``schedule`` key of a
            quantizer's specification: ``"reste"``, ``"ede"``, ``"bits"``, a mapping. It goes to
            every quantizer that can take it and has none of its own.
        calibrate_batches: from how many training batches the scales of inputs are set (where
            they have any); 0 leaves it to each quantizer's own first batch.
        start_epoch: before this epoch the layers compute in float.
        watch_batches: how many of the first training batches are checked for dead input
            quantizers, which raise an error. Also the first batch of each later epoch is
            checked (where nothing is compiled), and at each epoch's end all weights; these warn.
        reestimate_batch_norm: from how many training batches the statistics of batch norm are
            estimated anew when training ends; 0 keeps them.
        check_finite: after how many training steps the batches, losses, weights, scales and
            statistics since are checked for NaN and infinity, which stop the run before a
            checkpoint is written, and so the batches of validation and test; a sign would hide
            them. 0 never checks; nor does it where a FiniteCheck beside it looks as often.

    Attributes:
        report: what the last setup converted and why.

    Raises:
        ConfigurationError: for a wrong policy or number; a schedule that no quantizer can take;
            dead inputs in the first batches; a checkpoint of another policy, or a model that
            another policy has quantized, with the differences.
        NotFiniteError: for NaN and infinity, with layer, batch and cause.

    Source: the place of Lightning's callback of that name, removed in 2.0 (pull request 16750).
    """

    def __init__(
        self,
        policy: Policy | Mapping[str, Any] | Sequence[Any],
        schedule: str | Mapping[str, Any] | None = None,
        calibrate_batches: int = 0,
        start_epoch: int = 0,
        watch_batches: int = 2,
        reestimate_batch_norm: int = 0,
        check_finite: int = 10,
    ) -> None:
        self.policy = with_schedule(Policy.parse(policy), schedule)
        counts = {
            "calibrate_batches": calibrate_batches,
            "start_epoch": start_epoch,
            "watch_batches": watch_batches,
            "reestimate_batch_norm": reestimate_batch_norm,
            "check_finite": check_finite,
        }
        for name, value in counts.items():
            require(type(value) is int and value >= 0, name, value, "use an integer from 0")
        self.calibrate_batches = calibrate_batches
        self.start_epoch = start_epoch
        self.watch_batches = watch_batches
        self.reestimate_batch_norm = reestimate_batch_norm
        self.check_finite = check_finite
        self._forget()

    def _forget(self) -> None:
        """Start as a fresh callback does: nothing of one fit goes into the next."""
        self.report: Report | None = None
        self._layers: dict[str, Any] = {}  # what the layers are, by name
        self._first: FirstBatches | None = None
        self._finite = FiniteCheck(self.check_finite) if self.check_finite else None
        self._scheduled: list[nn.Module] = []
        self._batches = 0  # training batches that were quantized and checked so far
        self._kept: dict[str, list[Tensor]] = {}  # inputs that calibration has seen of them
        self._said: set[str] = set()  # layers whose lost zeros were named

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Convert the module's layers, or arrange that its ``configure_model`` does so."""
        if stage == "fit":
            self._forget()
        if any(
            isinstance(callback, FiniteCheck) and callback.every <= self.check_finite
            for callback in trainer.callbacks  # type: ignore[attr-defined]
        ):
            self._finite = None  # that one looks as often: once is enough

        def convert() -> None:
            thawing = any(
                isinstance(callback, BaseFinetuning)
                for callback in trainer.callbacks  # type: ignore[attr-defined]
            )
            report = convert_module(pl_module, self.policy, reach_frozen=thawing)
            new = any(row.rule is not None for row in report.layers)
            self.report = report
            self._layers = {
                name: layer.specification() for name, layer in named_quantized_layers(pl_module)
            }
            if new:
                self._said |= {finding.layer for finding in lost_zeros(pl_module)}
                if stage == "fit":
                    refuse_earlier_copies(self, trainer)
                rank_zero_info(f"{type(self).__name__}:\n{report}")
            if stage == "fit":
                warn_of_averaged_signs(trainer, pl_module)
                refuse_unused_scales(trainer, pl_module, self.start_epoch)
                require(
                    pl_module.automatic_optimization or self.reestimate_batch_norm == 0,
                    "reestimate_batch_norm",
                    self.reestimate_batch_norm,
                    "with manual optimization training_step would train; call "
                    "ste_lightning.convert.reestimate_batch_norm yourself",
                )
                if new:
                    warn_of_own_processes(trainer)

        swap_at_setup(trainer, pl_module, convert)

    def on_sanity_check_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Let inputs pass whose quantizers have seen no training data yet."""
        for _, layer in named_quantized_layers(pl_module):
            initialized = getattr(layer.input_quantizer, "initialized", None)
            if initialized is not None and not bool(initialized):
                layer.input_quantization = False

    def on_sanity_check_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Quantize these inputs again."""
        _switch(pl_module, True)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Find what schedules drive; resumed within an epoch, this is where training begins."""
        self._scheduled = [m for m in pl_module.modules() if getattr(m, "schedules", None)]
        require(
            not self._scheduled or math.isfinite(trainer.estimated_stepping_batches),
            "max_epochs",
            trainer.max_epochs,
            "a schedule needs the length of training: set max_epochs or max_steps",
        )
        _switch(pl_module, self._is_on(trainer))
        epochs = trainer.max_epochs
        if epochs is not None and 0 <= epochs <= self.start_epoch and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            rank_zero_warn(
                f"start_epoch={self.start_epoch} is not reached with max_epochs={epochs}: nothing "
                "is trained quantized."
            )
        if self._finite is not None:
            self._finite.on_train_start(trainer, pl_module)
        self._say(lost_zeros(pl_module))

    def _say(self, findings: Iterable[Finding]) -> None:
        """Warn of layers that were not named before in this fit."""
        for finding in findings:
            if finding.layer not in self._said:
                self._said.add(finding.layer)
                rank_zero_warn(finding.message)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Switch quantization on when its time has come, and watch this epoch's first batch."""
        _switch(pl_module, self._is_on(trainer))
        if not self._is_on(trainer):
            return
        if self.start_epoch > 0 and self._batches == 0:
            _initialize_weights(pl_module)
        self._look_at_first(pl_module, again=self.watch_batches > 0)

    def _look_at_first(self, module: nn.Module, again: bool) -> None:
        """Watch and calibrate as far as that is not done."""
        watch = max(self.watch_batches - self._batches, 0)
        calibrate = max(self.calibrate_batches - self._batches, 0)
        calibration = Calibration(module, self.calibrate_batches, self._kept)
        look_again = again and watch == 0
        self._first = FirstBatches(module, watch, calibrate, calibration, look_again)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Move the schedules to where training is, and look at the batch."""
        if self._finite is not None:
            self._finite.on_train_batch_start(trainer, pl_module, batch, batch_idx)
        first = max(self.watch_batches, self.calibrate_batches)
        if self._first is None and self._batches < first and self._is_on(trainer):
            self._look_at_first(pl_module, again=False)  # resumed within an epoch
        if self._scheduled:
            progress = self._progress(trainer, pl_module)
            for quantizer in self._scheduled:
                quantizer.set_progress(progress)  # type: ignore[operator]

    def _is_on(self, trainer: L.Trainer) -> bool:
        return trainer.current_epoch >= self.start_epoch

    def on_before_backward(
        self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor
    ) -> None:
        """Look at the loss."""
        if self._finite is not None:
            self._finite.on_before_backward(trainer, pl_module, loss)

    def _progress(self, trainer: L.Trainer, module: L.LightningModule) -> float:
        """Return the fraction of the quantized part of training that is done."""
        total = float(trainer.estimated_stepping_batches)
        steps = float(trainer.num_training_batches) / trainer.accumulate_grad_batches
        start = min(self.start_epoch * steps / total, 1.0) if self.start_epoch > 0 else 0.0
        done = share_done(trainer, module, total)
        return max((done - start) / (1.0 - start), 0.0) if start < 1.0 else 0.0

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Look at the model now and then; judge the quantizers after the first batches."""
        if self._finite is not None:
            self._finite.on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if self._is_on(trainer):
            self._batches += 1
        if self._first is not None and self._first.batch_done():
            self._first = None
            if self.watch_batches > 0:
                self._say(dead_weights(pl_module))

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Warn about dead weights, lost zeros and collapsed steps."""
        if self._finite is not None:
            self._finite.on_train_epoch_end(trainer, pl_module)
        self._close()
        if not self._is_on(trainer):
            return
        for finding in collapsed_steps(pl_module):
            rank_zero_warn(finding.message)
        if self.watch_batches > 0:
            self._say((*dead_weights(pl_module), *lost_zeros(pl_module)))

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Look before anything is measured, and a checkpoint written."""
        if self._finite is not None:
            self._finite.on_validation_start(trainer, pl_module)

    def on_validation_batch_start(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Take note of the batch."""
        if self._finite is not None:
            self._finite.on_validation_batch_start(trainer, pl_module, batch, batch_idx)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Look at what was measured."""
        if self._finite is not None:
            self._finite.on_validation_end(trainer, pl_module)

    on_test_start = on_validation_start
    on_test_batch_start = on_validation_batch_start
    on_test_end = on_validation_end

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Estimate batch norm's statistics anew, if asked."""
        if self.reestimate_batch_norm:
            reestimate_from_training_data(trainer, pl_module, self.reestimate_batch_norm)

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Leave no hook behind; let no checkpoint be written of what is not finite."""
        if self._finite is not None:
            self._finite.on_exception(trainer, pl_module, exception)
        self._close()
        cancel_swap(pl_module)
        _switch(pl_module, True)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Leave no hook and no switched-off layer behind."""
        self._scheduled = []
        self._close()
        if self._finite is not None:
            self._finite.teardown(trainer, pl_module, stage)
        _switch(pl_module, True)

    def _close(self) -> None:
        if self._first is not None:
            self._first.close()
            self._first = None

    def state_dict(self) -> dict[str, Any]:
        """Return the policy and what the layers are, as plain Python."""
        return {
            "policy": self.policy.plain(),
            "layers": self._layers,
            "batches": self._batches,
            "calibration": self._kept,
        }

    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Refuse a checkpoint whose layers had other quantizers, or of a part of a calibration.

        Raises:
            ConfigurationError: with the differences; for one of several processes that were
                calibrating, as it knows what one of them has seen.
        """
        state = checkpoint.get("callbacks", {}).get(self.state_key)
        if state is None:
            return
        refuse_another_checkpoint(state, pl_module)
        fits = trainer.state.fn == TrainerFn.FITTING
        require(
            not (fits and trainer.world_size > 1 and state.get("calibration")),
            "calibrate_batches",
            self.calibrate_batches,
            f"several processes cannot go on from a checkpoint after {state['batches']} batches of "
            "it; start again, or from a later checkpoint",
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where the checkpoint's training was."""
        self._batches = int(state_dict["batches"])
        self._kept = {name: list(x) for name, x in state_dict.get("calibration", {}).items()}


def _switch(module: nn.Module, on: bool) -> None:
    """Let all quantized layers compute quantized, or in float."""
    for _, layer in named_quantized_layers(module):
        for key in ("weight_quantization", "input_quantization"):
            if on:
                vars(layer).pop(key, None)
            else:
                setattr(layer, key, False)


def _initialize_weights(module: nn.Module) -> None:
    """Let learned scales of weights start from where float training ended."""
    for _, layer in named_quantized_layers(module):
        initialize = getattr(layer.weight_quantizer, "initialize", None)
        if initialize is not None:
            initialize(layer.latent_weight().detach())
