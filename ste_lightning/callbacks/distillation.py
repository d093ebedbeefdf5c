"""Train a quantized student with a float teacher's outputs beside the labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ste_lightning.errors import ConfigurationError, require, unknown
from ste_lightning.io.checkpoint import read_checkpoint

__all__ = ["Distillation"]


class _AddGradient(torch.autograd.Function):
    """y = x forward; backward ``keep`` times the gradient of y, plus ``extra``."""

    @staticmethod
    def forward(x: Tensor, extra: Tensor, keep: float) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, float], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1])
        ctx.keep = inputs[2]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (extra,) = ctx.saved_tensors
        return ctx.keep * grad + extra, None, None


class Distillation(L.Callback):
    r"""Pull a student's logits, and features if wanted, to those of a teacher.

    The gradient that reaches the student's logits z, with t the teacher's, is that of

    .. math::
        (1 - \lambda)\, L(z, y) + \lambda\, T^2\,
        \mathrm{KL}\bigl(\mathrm{softmax}(t / T)\,\|\,\mathrm{softmax}(z / T)\bigr)
        + \mu \sum_l \bigl\| \tfrac{f_l}{\|f_l\|} - \tfrac{f^t_l}{\|f^t_l\|} \bigr\|^2 ,

    averaged over the batch; L is whatever the module's own ``training_step`` computes and logs.
    The added gradients are put in place where the student's tensors are made, so any module, any
    loss, mixed precision, accumulation and several processes work, and no method is replaced.
    The distillation loss itself is logged as ``train/distillation``.

    The teacher sees what the student sees, augmented and mixed, in evaluation mode without
    gradients. It belongs to the callback: it is in no checkpoint of the student.

    Sources: G. Hinton, O. Vinyals and J. Dean, Distilling the Knowledge in a Neural Network
    (2015), section 2; features as in B. Martinez et al., Training Binary Neural Networks with
    Real-to-Binary Convolutions (2020), section 3.

    Args:
        teacher: a module with the student's inputs and outputs, or the path of a checkpoint of
            the student's LightningModule class (a float twin, usually), whose part of the same
            name becomes the teacher.
        weight: lambda, 0 to 1.
        temperature: T > 0; higher values let the small outputs speak.
        student: the part of the LightningModule that returns logits, by its name.
        features: names of layers inside student and teacher whose outputs are matched, too.
        feature_weight: mu >= 0.

    Raises:
        ConfigurationError: for values out of range; when the fit begins for a teacher that
            cannot be loaded and names that do not exist; when the first batch comes for teachers
            whose outputs have another shape.
    """

    def __init__(
        self,
        teacher: nn.Module | str | Path,
        weight: float = 0.5,
        temperature: float = 1.0,
        student: str = "network",
        features: Sequence[str] = (),
        feature_weight: float = 1.0,
    ) -> None:
        require(0 <= weight <= 1, "weight", weight, "use 0 to 1")
        require(temperature > 0, "temperature", temperature, "use a positive number")
        require(feature_weight >= 0, "feature_weight", feature_weight, "use 0 or more")
        if not isinstance(teacher, nn.Module):
            there = Path(teacher).is_file()
            require(there, "teacher", str(teacher), "there is no such checkpoint")
        self.teacher, self.weight, self.temperature = teacher, weight, temperature
        self.student, self.features, self.feature_weight = student, tuple(features), feature_weight
        self._forget()

    def _forget(self) -> None:
        self._handles: list[Any] = []
        self._teacher: nn.Module | None = None
        self._targets: dict[str, Tensor] = {}
        self._logits: Tensor | None = None
        self._losses: list[Tensor] = []
        self._factor = 1.0

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Load the teacher and watch the student."""
        self._forget()
        student = _part(pl_module, self.student, "student")
        self._teacher = self._loaded(pl_module).to(pl_module.device).eval().requires_grad_(False)
        for name in self.features:
            for owner, whose in ((student, "student"), (self._teacher, "teacher")):
                _part(owner, name, f"features of the {whose}")
            self._handles += [
                _part(self._teacher, name, "features").register_forward_hook(self._remember(name)),
                _part(student, name, "features").register_forward_hook(self._matched(name)),
            ]
        self._handles += [
            student.register_forward_pre_hook(self._ask, with_kwargs=True),
            student.register_forward_hook(self._distilled),
        ]

    def _loaded(self, pl_module: L.LightningModule) -> nn.Module:
        if isinstance(self.teacher, nn.Module):
            return self.teacher
        from ste_lightning.callbacks.loading import conversion_state, load_quantized

        made = type(pl_module)
        content = read_checkpoint(self.teacher)
        converted = conversion_state(content) is not None
        try:
            if converted:
                module: L.LightningModule = load_quantized(made, self.teacher)
            else:
                module = made.load_from_checkpoint(
                    self.teacher, map_location="cpu", weights_only=True
                )
        except (TypeError, RuntimeError, KeyError) as error:
            raise ConfigurationError(
                f"teacher={str(self.teacher)!r} cannot be used: {made.__name__} cannot be made "
                f"from it ({error}). Pass the teacher as a module."
            ) from error
        return _part(module, self.student, "student")

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Learn by how much the loss of this step will be scaled."""
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        self._factor = float(scaler.get_scale()) if scaler is not None else 1.0
        if pl_module.automatic_optimization:
            self._factor /= trainer.accumulate_grad_batches
        self._losses = []

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Log the distillation loss."""
        if self._losses:
            loss = torch.stack(self._losses).mean()
            pl_module.log("train/distillation", loss, on_step=False, on_epoch=True)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leave student and teacher as they were."""
        self._release()

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Leave student and teacher as they were, also after an error."""
        self._release()

    def _release(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._forget()

    def _ask(self, student: nn.Module, args: Any, kwargs: Any) -> None:
        if not (student.training and torch.is_grad_enabled()) or self._teacher is None:
            self._logits = None
            return
        with torch.no_grad():
            self._logits = self._teacher(*args, **kwargs)

    def _remember(self, name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def hook(module: nn.Module, args: Any, output: Tensor) -> None:
            self._targets[name] = output

        return hook

    def _matched(self, name: str) -> Callable[[nn.Module, Any, Tensor], Tensor]:
        def hook(module: nn.Module, args: Any, output: Tensor) -> Tensor:
            target = self._targets.pop(name, None)
            if target is None or not (module.training and output.requires_grad):
                return output
            _check_shapes(name, output, target)

            def loss(x: Tensor) -> Tensor:
                ours, theirs = (F.normalize(t.flatten(1), dim=1) for t in (x, target.float()))
                return (ours - theirs).square().sum() / len(x)

            return self._with_gradient(output, loss, self.feature_weight, 1.0)

        return hook

    def _distilled(self, student: nn.Module, args: Any, output: Tensor) -> Tensor:
        target, self._logits = self._logits, None
        if target is None or not isinstance(output, Tensor) or not output.requires_grad:
            return output
        _check_shapes("logits", output, target)

        def loss(x: Tensor) -> Tensor:
            ours, theirs = (F.log_softmax(t / self.temperature, -1) for t in (x, target.float()))
            rows = ours.numel() // ours.shape[-1]
            return (
                self.temperature**2
                * F.kl_div(ours, theirs, reduction="sum", log_target=True)
                / rows
            )

        return self._with_gradient(output, loss, self.weight, 1 - self.weight)

    def _with_gradient(
        self, x: Tensor, loss: Callable[[Tensor], Tensor], weight: float, keep: float
    ) -> Tensor:
        """Return x; its gradient is ``keep`` times what comes, plus that of ``weight`` x loss."""
        with torch.enable_grad(), torch.autocast(x.device.type, enabled=False):
            alone = x.detach().float().requires_grad_()
            value = loss(alone)
            (gradient,) = torch.autograd.grad(value, alone)
        self._losses.append(weight * value.detach())
        extra = (weight * self._factor * gradient).to(x.dtype)
        changed: Tensor = _AddGradient.apply(x, extra, keep)  # type: ignore[no-untyped-call]
        return changed


def _part(module: nn.Module, name: str, argument: str) -> nn.Module:
    try:
        return module.get_submodule(name)
    except AttributeError:
        options = [key for key, _ in module.named_modules() if key]
        raise unknown(f"{argument} in {type(module).__name__}", name, options) from None


def _check_shapes(what: str, ours: Tensor, theirs: Tensor) -> None:
    require(
        ours.shape == theirs.shape,
        "teacher",
        tuple(theirs.shape),
        f"its {what} must have the student's shape {tuple(ours.shape)}",
    )
