"""The binary two-layer network of straight-through theory, many independent trials at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from ste_lightning import functional as SF
from ste_lightning.errors import require, unknown
from ste_lightning.metrics import FlipRatio, Recovery, Recurrence
from ste_lightning.models.coarse_gradient import CoarseGradient, coarse_loss
from ste_lightning.models.optimization import build_optimizer
from ste_lightning.models.streams import Stream, normal

__all__ = ["BinaryTwoLayer"]


class BinaryTwoLayer(L.LightningModule):
    r"""y = v^T step(Z w) with binary w, trained by the straight-through estimator.

    With latent weights x, w = sign(x) / sqrt(n), and residuals r_i = v^T step(Z_i w) - y_i,

        loss = 1/(2N) sum_i r_i^2
        g    = (1/N) sum_i Z_i^T (f'(Z_i w) * v) r_i        (the coarse gradient)
        x   <- x - lr * g * h'(x)

    where f' is the step's backward rule and h' the sign's. There is no further factor
    1/sqrt(n): ``lr`` is theory's eta. All parameters have a leading trial dimension; the loss
    of training is the *sum* over trials, so each trial sees only its own gradient. (Clipping
    gradients by their global norm is the one thing that would couple them.)

    Training logs, every ``log_every_n_steps``: means over trials of ``loss``, ``hamming`` (wrong
    signs), ``recovery`` (last iterate), ``ergodic_recovery``, ``at_teacher`` (fraction of steps
    at w*), ``escapes``, ``returns``, ``return_time``, ``flip_ratio`` and ``dead`` (coarse
    gradient exactly zero at positive loss). :meth:`result` gives them per trial.

    Args:
        n: inputs of the first layer.
        m: rows of a sample, hidden units.
        trials: independent networks trained side by side; default 1.
        rule: backward rule of the step: a name, a mapping ``{"rule": name, **parameters}``, or
            a rule; default ``relu``, Yin et al.'s.
        weight_rule: backward rule of the weights' sign; default ``identity``.
        v: second layer without a teacher to copy, and of ``v_init="random"``: ``ones``
            (1/sqrt(m) each) or ``gaussian`` (uniform on the unit sphere).
        train_v: whether to train v as well; default no.
        v_init: start of v: ``teacher`` (copy v*), ``zeros`` (recommended if v is trained:
            docs/theory/beyond.md) or ``random`` (by the law ``v``).
        optimizer: a name (``sgd``, ``adam``, ...) or a mapping with ``name`` and the
            optimizer's arguments.
        lr: learning rate of x; default 1.
        momentum: of ``optimizer="sgd"``; default 0.
        lr_v: learning rate of v; default ``lr``.
        init_scale: standard deviation of the initial latent weights; default 0.1.
        seed: of the initial weights, drawn by (seed, trial), from other streams than the data.
        burn_in: steps not counted in the fraction of steps at the teacher; default 0.
        trace_steps: steps whose Hamming distances are kept for figures; default 0.

    Raises:
        ConfigurationError: for sizes that are not positive, unknown names and rules, and data
            or a teacher of another shape.

    Source: arXiv 2505.18113 (binary weights); Yin et al. 2019, arXiv 1903.05662 (the
    two-layer network and the coarse gradient).
    """

    weight: Parameter
    v: Tensor
    teacher: Tensor
    teacher_v: Tensor
    loss: Tensor
    dead: Tensor

    def __init__(
        self,
        n: int,
        m: int,
        trials: int = 1,
        rule: SF.RuleSpec = "relu",
        weight_rule: SF.RuleSpec = "identity",
        v: str = "ones",
        train_v: bool = False,
        v_init: str = "teacher",
        optimizer: str | Mapping[str, Any] = "sgd",
        lr: float = 1.0,
        momentum: float = 0.0,
        lr_v: float | None = None,
        init_scale: float = 0.1,
        seed: int = 0,
        burn_in: int = 0,
        trace_steps: int = 0,
    ) -> None:
        super().__init__()
        for argument, value in {"n": n, "m": m, "trials": trials}.items():
            require(value > 0, argument, value, "use a positive integer")
        require(init_scale > 0, "init_scale", init_scale, "use a positive number")
        require(lr > 0, "lr", lr, "use a positive number")
        require(seed >= 0, "seed", seed, "use an integer >= 0")
        if v not in ("ones", "gaussian"):
            raise unknown("v", v, ("ones", "gaussian"))
        if v_init not in ("teacher", "zeros", "random"):
            raise unknown("v_init", v_init, ("teacher", "zeros", "random"))
        self.rule, self.weight_rule = SF.surrogate(rule), SF.surrogate(weight_rule)
        if isinstance(optimizer, Mapping):
            optimizer = dict(optimizer)
        self.n, self.m, self.trials, self.v_init = n, m, trials, v_init
        self._save_plain_hyperparameters(optimizer)

        self.weight = Parameter(init_scale * normal(seed, Stream.WEIGHT, trials, n))
        direction = torch.ones(trials, m)
        if v == "gaussian":
            direction = normal(seed, Stream.V, trials, m)
        start = torch.zeros(trials, m) if v_init == "zeros" else direction
        start = torch.nn.functional.normalize(start, dim=1)
        if train_v:
            self.v = Parameter(start)
        else:
            self.register_buffer("v", start)
        self.register_buffer("teacher", torch.zeros(trials, n))
        self.register_buffer("teacher_v", torch.zeros(trials, m))
        self.register_buffer("loss", torch.zeros(trials))
        self.register_buffer("dead", torch.zeros(trials, dtype=torch.bool))
        self.recovery = Recovery(trials, n)
        self.recurrence = Recurrence(trials, burn_in=burn_in, trace_steps=trace_steps)
        self.flip_ratio = FlipRatio()
        self._gradient = CoarseGradient(self.rule)

    def _save_plain_hyperparameters(self, optimizer: str | dict[str, Any]) -> None:
        """Keep rules as dictionaries, so that checkpoints load with weights_only=True.

        A custom rule's function cannot be kept: load such a checkpoint with ``rule=`` again.
        """
        self.save_hyperparameters(ignore=["rule", "weight_rule", "optimizer"])
        plain: dict[str, Any] = {"optimizer": optimizer}
        for key, rule in {"rule": self.rule, "weight_rule": self.weight_rule}.items():
            if not any(callable(value) for value in rule.parameters().values()):
                plain[key] = rule.specification()
        self.save_hyperparameters(plain)

    # -- the network ---------------------------------------------------------------------------

    def binary_weight(self) -> Tensor:
        """Return w = sign(x) / sqrt(n), shape (trials, n), whose gradient is that of sign(x)."""
        sign = SF.sign(self.weight, rule=self.weight_rule)
        w: Tensor = (sign * self.n**-0.5).detach() + (sign - sign.detach())
        return w

    def forward(self, Z: Tensor) -> Tensor:
        """Return the outputs (trials, N) for inputs Z of shape (trials, N, m, n).

        Ordinary differentiable tensor operations; training takes the equal, faster path of
        :func:`ste_lightning.models.coarse_gradient.coarse_loss`.
        """
        a = (Z @ self.binary_weight()[:, None, :, None]).squeeze(-1)
        y: Tensor = (SF.step(a, rule=self.rule) * self.v[:, None, :]).sum(-1)
        return y

    # -- the teacher ---------------------------------------------------------------------------

    def set_teacher(self, w_star: Tensor, v_star: Tensor) -> None:
        """Tell the network its teacher: what recovery is measured against, and v's start.

        Args:
            w_star: teacher weights, of which the signs count, shape (trials, n).
            v_star: the teacher's second layer, shape (trials, m).

        Raises:
            ConfigurationError: for other shapes.
        """
        for name, given, shape in (
            ("w_star", w_star, (self.trials, self.n)),
            ("v_star", v_star, (self.trials, self.m)),
        ):
            remedy = f"the model needs shape {shape}; give model and data the same n, m and trials"
            require(tuple(given.shape) == shape, f"{name}.shape", tuple(given.shape), remedy)
        sign = SF.hard_sign(w_star).to(self.teacher)
        v_star = v_star.to(self.teacher_v)
        if torch.equal(sign, self.teacher) and torch.equal(v_star, self.teacher_v):
            return  # known already: a v trained since then stays
        self.teacher.copy_(sign)
        self.teacher_v.copy_(v_star)
        if self.v_init == "teacher":
            with torch.no_grad():
                self.v.copy_(v_star)

    def setup(self, stage: str) -> None:
        """Take the teacher of the trainer's data module, where it has one."""
        teacher = getattr(getattr(self.trainer, "datamodule", None), "teacher", None)
        if teacher is not None:
            self.set_teacher(*teacher)

    def on_fit_start(self) -> None:
        """Refuse to train without a teacher."""
        require(
            bool(self.teacher.any()),
            "teacher",
            None,
            "train on data.TeacherStudent, or call set_teacher(w_star, v_star)",
        )

    # -- training ------------------------------------------------------------------------------

    def _losses(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        Z, y = batch
        shape = (self.trials, Z.shape[1], self.m, self.n)
        remedy = f"the model needs shape (trials, N, m, n) = {('trials', 'N', 'm', 'n')}"
        require(Z.shape == shape, "Z.shape", tuple(Z.shape), remedy)
        sign = SF.sign(self.weight, rule=self.weight_rule)
        return coarse_loss(sign, self.v, Z, y, self._gradient)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the sum of the trials' losses."""
        losses = self._losses(batch)
        self.loss.copy_(losses.detach())
        every = getattr(self.trainer, "log_every_n_steps", 0)
        if every and (self.global_step + 1) % every == 0:
            self._log_statistics(on_step=True)
        return losses.sum()

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step, then take the new iterate into the statistics.

        Here and not in ``on_train_batch_end``, so that checkpoints written by callbacks there
        already contain it.
        """
        super().optimizer_step(*args, **kwargs)
        with torch.no_grad():
            positive, teacher = self.weight >= 0, self.teacher > 0
            self.recovery.update(positive, teacher)
            self.recurrence.update((positive != teacher).sum(1))
            self.flip_ratio.update(positive)
            if self.weight.grad is not None:
                torch.logical_and(~self.weight.grad.any(1), self.loss > 0, out=self.dead)

    def on_train_end(self) -> None:
        """Name the trials that are dead."""
        dead = self.dead.nonzero().flatten().tolist()
        if dead:
            some = ", ".join(map(str, dead[:10])) + (", ..." if len(dead) > 10 else "")
            rank_zero_warn(
                f"{len(dead)} of {self.trials} trials are dead (trial {some}): their coarse "
                "gradient is exactly zero at positive loss, so plain full-batch descent can never "
                "go on. Inputs with a mean do that: centre or standardize them."
            )

    def on_train_epoch_end(self) -> None:
        """Log where training stands at the end."""
        self._log_statistics(on_step=False)

    def _log_statistics(self, on_step: bool) -> None:
        result = self.result()
        returns = result["returns"].sum()
        time_away = (result["mean_return_time"] * result["returns"]).nansum()
        values = {
            "loss": result["loss"].mean(),
            "hamming": result["hamming"].float().mean(),
            "recovery": result["last_recovery"].float().mean(),
            "ergodic_recovery": result["ergodic_recovery"].float().mean(),
            "at_teacher": result["fraction_at_teacher"].mean(),
            "escapes": result["escapes"].float().mean(),
            "returns": result["returns"].float().mean(),
            "return_time": time_away / returns.clamp(min=1),
            "flip_ratio": result["flip_ratio"].float(),
            "dead": result["dead"].float().mean(),
        }
        shown = {"loss", "recovery"}
        for name, value in values.items():
            shows = name in shown
            self.log(
                name, value, prog_bar=shows, on_step=on_step, on_epoch=not on_step, batch_size=1
            )

    def result(self) -> dict[str, Tensor]:
        """Return what happened, per trial.

        Returns:
            ``loss`` (last step's), ``hamming``, ``last_recovery``, ``ergodic_recovery``,
            ``dead``, ``first_hit`` (step, from 1; -1: never), ``fraction_at_teacher``,
            ``escapes``, ``returns``, ``mean_return_time``: shape (trials,);
            ``return_times``: histogram (trials, bins), bin k counts return times k + 1;
            ``hamming_trace``: (steps kept, trials); ``flip_ratio``: 0-d, over all trials.
        """
        # The classes' own compute: no synchronization (ranks hold the same), no cache.
        recovery = Recovery.compute(self.recovery)
        visits = Recurrence.compute(self.recurrence)
        return {
            "loss": self.loss.clone(),
            "hamming": recovery["hamming"],
            "last_recovery": recovery["last"],
            "ergodic_recovery": recovery["ergodic"],
            "dead": self.dead.clone(),
            "first_hit": visits["first_hit"],
            "fraction_at_teacher": visits["fraction"],
            "escapes": visits["escapes"],
            "returns": visits["returns"],
            "mean_return_time": visits["mean_return_time"],
            "return_times": visits["return_times"],
            "hamming_trace": visits["trace"],
            "flip_ratio": FlipRatio.compute(self.flip_ratio),
        }

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Log the loss on fresh samples and the recovery of the last iterate."""
        wrong = (self.weight >= 0) != (self.teacher > 0)
        self.log("test_loss", self._losses(batch).mean(), batch_size=1)
        self.log("test_hamming", wrong.sum(1).float().mean(), batch_size=1)
        self.log("test_recovery", (~wrong.any(1)).float().mean(), batch_size=1)

    def configure_optimizers(self) -> Optimizer:
        """Return the optimizer of x and, with its own rate, of v."""
        hparams = self.hparams
        spec = hparams["optimizer"]
        if isinstance(spec, str):
            spec = {"name": spec, **({"momentum": hparams["momentum"]} if spec == "sgd" else {})}
        spec = {"lr": hparams["lr"], **spec}
        groups: list[dict[str, Any]] = [{"params": [self.weight]}]
        if isinstance(self.v, Parameter):
            groups.append({"params": [self.v], "lr": hparams["lr_v"] or spec["lr"]})
        return build_optimizer(spec, groups)
