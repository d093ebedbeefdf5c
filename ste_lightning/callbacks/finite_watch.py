"""Stop a run that has met NaN or infinity, before it saves over a good checkpoint."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import lightning as L
import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from ste_lightning.convert.structure import clean_name, tensors
from ste_lightning.errors import NotFiniteError

__all__ = ["FiniteWatch"]


class FiniteWatch:
    """Looks at every batch and loss, and at all weights, scales and statistics now and then.

    A sign hides what is not a number from everything after it, so that the loss alone says
    little. What is seen waits on its device until the next look: no step waits for it.

    Args:
        trainer: that trains or evaluates ``module``.
        module: the model.
        every: steps between two looks.
    """

    def __init__(self, trainer: L.Trainer, module: L.LightningModule, every: int) -> None:
        self.trainer, self.module, self.every = trainer, module, every
        self.seen: list[tuple[str, Tensor]] = []
        self.steps = 0
        # a loss scaled for float16 may overflow: its step is left out
        self.scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
        self.hook = module.register_state_dict_pre_hook(  # type: ignore[no-untyped-call]
            self._before_saving
        )
        self.look()

    def close(self) -> None:
        """Stop to look."""
        self.hook.remove()
        self.seen = []

    @torch.no_grad()
    def batch(self, batch: Any, index: int) -> None:
        """Take note of a batch of data."""
        for x in tensors(batch):
            if x.is_floating_point() and x.numel():
                self.seen.append((f"{self._place(index)} holds", _largest(x)))

    def loss(self, loss: Tensor, index: int) -> None:
        """Take note of a loss; on the CPU look at once, before its gradients reach the weights."""
        if self.scaled or not loss.numel():
            return
        self.seen.append((f"the loss of {self._place(index)} is", _largest(loss)))
        if loss.is_cpu and not bool(self.seen[-1][1].isfinite()):
            self.look()

    def step_done(self) -> None:
        """Look when it is time."""
        self.steps += 1
        if self.steps % self.every == 0 or self._saves_now():
            self.look()

    def _place(self, index: int) -> str:
        stage = self.trainer.state.stage
        evaluated = stage is not None and stage.evaluating
        kind = f"{'test' if self.trainer.testing else 'validation'} " if evaluated else ""
        return f"{kind}batch {index} of epoch {self.trainer.current_epoch}"

    def _saves_now(self) -> bool:
        """Return whether a checkpoint may be written in the middle of the epoch after this."""
        return any(
            n > 0 and self.trainer.global_step % n == 0
            for n in (
                int(getattr(callback, "_every_n_train_steps", 0) or 0)
                for callback in self.trainer.checkpoint_callbacks
            )
        )

    def is_broken(self) -> bool:
        """Return whether the model is not finite."""
        return self._broken() is not None

    def look(self) -> None:
        """Look at what was noted, and at the model.

        Raises:
            NotFiniteError: with the tensor, the batch and the likely cause.
        """
        seen, self.seen = self.seen, []
        bad = None
        if seen:
            finite = torch.stack([value.float() for _, value in seen]).isfinite().tolist()
            values = [one for one, fine in zip(seen, finite, strict=True) if not fine]
            bad = next(((what, float(value)) for what, value in values), None)
        # infinite data may be meant (masks) and may pass; what they do to the model may not
        hopeless = bad is not None and (math.isnan(bad[1]) or bad[0].startswith("the loss"))
        where = self._broken()
        if where is None and not hopeless:
            return
        step, epoch = self.trainer.global_step, self.trainer.current_epoch
        cause = (
            f"{bad[0]} {'NaN' if math.isnan(bad[1]) else 'infinity'}"
            if bad is not None
            else "batches and losses were finite: gradients overflowed, lower the learning rate or "
            "clip gradients"
            if step
            else "it was so when training began"
        )
        found = "" if where is None else f"{where}. First seen: "
        if self.trainer.state.fn != TrainerFn.FITTING:
            raise NotFiniteError(f"evaluation stopped: {found}{cause}. A sign would hide it.")
        raise NotFiniteError(
            f"training stopped at step {step}, epoch {epoch}: {found}{cause}. No checkpoint was "
            "written with it. Resume from the last one when the cause is mended."
        )

    @torch.no_grad()
    def _broken(self) -> str | None:
        """Return which tensor of the model is not finite, with its layer."""
        named = list(_watched(self.module))
        by_device: dict[torch.device, list[Tensor]] = {}
        for _, tensor in named:
            by_device.setdefault(tensor.device, []).append(_largest(tensor).float())
        if all(bool(torch.stack(largest).isfinite().all()) for largest in by_device.values()):
            return None
        for name, tensor in named:
            if not bool(tensor.isfinite().all()):
                layer, _, key = name.rpartition(".")
                what = "NaN" if bool(tensor.isnan().any()) else "infinite"
                return f"{key!r} of layer {layer!r} is {what}"
        return None

    def _before_saving(self, module: nn.Module, prefix: str, keep_vars: bool) -> None:
        if self.trainer.training or self.trainer.validating:
            self.look()


def _watched(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the parameters, the ranges of quantizers and the statistics of norms."""
    for name, part in module.named_modules():
        kept = dict(part._parameters)
        if isinstance(part, _NormBase) or name.endswith("_quantizer"):
            kept |= part._buffers
        for key, tensor in kept.items():
            if tensor is None or tensor.is_meta or nn.parameter.is_lazy(tensor):
                continue
            if tensor.is_floating_point() and tensor.numel():
                yield clean_name(f"{name}.{key}"), tensor.detach()


def _largest(x: Tensor) -> Tensor:
    """Return max|x|, which is NaN if any element is, 0-d."""
    low, high = torch.aminmax(x.detach())  # vectorized; the infinity norm takes ten times as long
    return torch.maximum(-low, high)
