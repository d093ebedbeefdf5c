"""Backend ``"torch"``: all trials of a chunk side by side, on any device, with any rule."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor
from torch.nn import Parameter

from ste_lightning.functional import Surrogate
from ste_lightning.models.coarse_gradient import evaluate, response
from ste_lightning.models.optimization import build_optimizer
from ste_lightning.models.streams import Stream, generator
from ste_lightning.theory.engine.problem import Problem
from ste_lightning.theory.engine.record import Record

__all__ = ["run"]


def run(
    problem: Problem,
    record: Record,
    *,
    steps: int,
    lr: float,
    rule: Surrogate,
    weight_rule: Surrogate,
    every: int = 1,
    burn_in: int = 0,
    train_v: bool = False,
    lr_v: float | None = None,
    batch_size: int | None = None,
    optimizer: str = "sgd",
    momentum: float = 0.0,
    seed: int = 0,
) -> None:
    """Train all trials of ``problem`` on its device, into ``record``.

    Args:
        problem: the trials.
        record: an empty record on the same device; its ``latent`` and ``v`` are the start.
        steps: T.
        lr: learning rate of the latent weights, on the coarse gradient with respect to w.
        rule: the step's backward rule.
        weight_rule: the sign's.
        every: distance between the recorded points of the traces.
        burn_in: steps that do not count for visits, escapes and returns.
        train_v: whether to train the second layer too.
        lr_v: its learning rate; ``None``: ``lr``.
        batch_size: samples of a step, drawn anew each step and the same for all trials;
            ``None``: all. Traces then show the batch's loss.
        optimizer: a name that :func:`ste_lightning.models.optimization.build_optimizer` knows.
        momentum: of ``optimizer="sgd"``.
        seed: of the batches.
    """
    Z, teacher = problem.inputs, problem.teacher
    y = response(Z, teacher, problem.v_teacher) + problem.noise
    x, v = Parameter(record.latent), Parameter(record.v)
    groups = [{"params": [x], "lr": lr}]
    if train_v:
        groups.append({"params": [v], "lr": lr if lr_v is None else lr_v})
    spec = {"name": optimizer, "lr": lr, **({"momentum": momentum} if optimizer == "sgd" else {})}
    engine = build_optimizer(spec, groups)
    _, record.teacher_gradient, _ = evaluate(Z, y, teacher, v.detach(), rule)
    visits = _Visits(record, x.detach() >= 0, teacher > 0, burn_in)
    for step in range(steps):
        picked = _batch(Z.shape[1], batch_size, seed, step, Z.device)
        Z_step, y_step = (Z, y) if picked is None else (Z[:, picked], y[:, picked])
        sign = torch.where(visits.positive, 1.0, -1.0)
        loss, record.gradient, gradient_v = evaluate(Z_step, y_step, sign, v.detach(), rule)
        record.evaluations += 1
        visits.trace(step, every, loss)
        still = ~record.gradient.any(1)
        record.frozen_at = torch.where(
            still, torch.where(record.frozen_at < 0, step, record.frozen_at), -1
        )
        x.grad, v.grad = record.gradient * weight_rule.derivative(x.detach()), gradient_v
        engine.step()
        visits.update(step + 1, x.detach() >= 0)
    record.latent, record.v = x.detach(), v.detach()
    sign = torch.where(visits.positive, 1.0, -1.0)
    record.final_loss, record.gradient, _ = evaluate(Z, y, sign, record.v, rule)
    visits.trace(steps, every, record.final_loss)


def _batch(
    samples: int, size: int | None, seed: int, step: int, device: torch.device
) -> Tensor | None:
    if size is None:
        return None
    # The draw of TeacherStudent's minibatches.
    rng = generator(seed, Stream.BATCHES, step)
    return torch.from_numpy(rng.choice(samples, size, replace=False)).to(device)


@dataclasses.dataclass
class _Visits:
    """Keeps the statistics of ``record`` while iterates come in, as booleans x >= 0."""

    record: Record
    positive: Tensor
    teacher: Tensor
    burn_in: int

    def __post_init__(self) -> None:
        self.away = (self.positive != self.teacher).sum(1)
        self.record.first_hit = torch.where(self.away == 0, 0, -1)
        self.left = torch.full_like(self.away, -1)

    def trace(self, step: int, every: int, loss: Tensor) -> None:
        """Record distance and loss of the present iterate, if its turn has come."""
        if step % every == 0:
            self.record.hamming[:, step // every] = self.away
            self.record.loss[:, step // every] = loss

    def update(self, step: int, positive: Tensor) -> None:
        """Take iterate ``step``."""
        record = self.record
        record.flips += (positive != self.positive).sum(1)
        record.sign_sum += 2 * positive.to(torch.int64) - 1
        before, self.away = self.away, (positive != self.teacher).sum(1)
        self.positive = positive
        here, was_here = self.away == 0, before == 0
        counted = step > self.burn_in
        escaped = was_here & ~here
        self.left = torch.where(escaped, step, self.left)
        record.first_hit = torch.where(here & (record.first_hit < 0), step, record.first_hit)
        record.visits += here & counted
        record.escapes += escaped & counted
        returned = here & ~was_here & (self.left > self.burn_in)
        length = (step - self.left) * returned
        record.returns += returned
        record.time_away += length
        record.longest_return = torch.maximum(record.longest_return, length)
        bins = record.return_histogram.shape[1]
        column = (length.clamp(1, bins) - 1).unsqueeze(1)
        record.return_histogram.scatter_add_(1, column, returned.to(torch.int64).unsqueeze(1))
