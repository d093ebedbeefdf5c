"""What :func:`ste_lightning.theory.simulate` returns."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from ste_lightning.functional import Surrogate
from ste_lightning.io.html import html_table
from ste_lightning.theory.engine.record import Record

__all__ = ["Simulation"]


@dataclasses.dataclass(frozen=True)
class Simulation:
    """What happened in each of B trials of T steps, on the CPU.

    Iterate t is the state after t updates. Shapes are (B,) where none is given.

    Attributes:
        last_recovery: w_T = w*, bool.
        ergodic_recovery: sign((1/T) sum_{t=1..T} sign(x_t)) = sign(w*), bool.
        first_hit: the first t with w_t = w*; 0 for a start there, -1 for never.
        fraction_at_teacher: share of the iterates after the burn-in that equal w*, float64.
        escapes: steps from w* to elsewhere after the burn-in.
        returns: steps back to w*, of excursions that began after the burn-in.
        return_times: mean number of iterates away, per return; NaN without a return; float64.
        longest_return: the longest of them.
        return_histogram: returns by length, (B, bins): column k counts length k + 1, the last
            column everything longer too.
        flips: sign changes of latent weights, all coordinates and steps together.
        hamming: distance to the teacher's signs at ``times``, (B, K), int32.
        loss: 1/(2N) sum_i r_i^2 at ``times``, (B, K).
        final_loss: loss of w_T.
        times: t of the traces' columns: 0, every, 2 every, ..., (K,).
        dead: no latent weight is given a gradient any more, at positive loss: plain descent can
            never go on. All hidden units are silent, or the weights' rule has shut.
        evaluations: coarse gradients computed; less than T where they were reused.
        latent: x_T, (B, n).
        v: second layer at the end, (B, m).
        average: (1/T) sum_t sign(x_t), (B, n), float64.
        teacher: sign(w*), (B, n).
        teacher_gradient: coarse gradient at w* on the training data, (B, n): zero without
            noise, and with noise what decides about escapes (see ``prediction``).
    """

    last_recovery: Tensor
    ergodic_recovery: Tensor
    first_hit: Tensor
    fraction_at_teacher: Tensor
    escapes: Tensor
    returns: Tensor
    return_times: Tensor
    longest_return: Tensor
    return_histogram: Tensor
    flips: Tensor
    hamming: Tensor
    loss: Tensor
    final_loss: Tensor
    times: Tensor
    dead: Tensor
    evaluations: Tensor
    latent: Tensor
    v: Tensor
    average: Tensor
    teacher: Tensor
    teacher_gradient: Tensor

    def summary(self) -> dict[str, float]:
        """Return means over the trials: recovery, time at w*, escapes, wrong signs, dead trials."""
        return {
            "last recovery": float(self.last_recovery.double().mean()),
            "averaged recovery": float(self.ergodic_recovery.double().mean()),
            "time at the teacher": float(self.fraction_at_teacher.mean()),
            "escapes": float(self.escapes.double().mean()),
            "wrong signs at the end": float(self.hamming[:, -1].double().mean()),
            "dead": float(self.dead.double().mean()),
        }

    def __repr__(self) -> str:
        """Return the means in a line, not the tensors."""
        means = ", ".join(f"{name} {value:.3g}" for name, value in self.summary().items())
        n = self.latent.shape[1]
        return f"Simulation({self.trials} trials, n = {n}, T = {int(self.times[-1])}: {means})"

    def _repr_html_(self) -> str:
        """Return the table that notebooks show."""
        rows = [(name, f"{value:.3g}") for name, value in self.summary().items()]
        return html_table((f"mean over {self.trials} trials", ""), rows)

    @property
    def trials(self) -> int:
        """Number of trials."""
        return len(self.last_recovery)

    @property
    def latent_statistics(self) -> dict[str, Tensor]:
        """Mean, smallest and largest |x_T| of each trial."""
        size = self.latent.abs()
        return {"mean": size.mean(1), "min": size.amin(1), "max": size.amax(1)}

    @classmethod
    def from_record(
        cls,
        record: Record,
        teacher: Tensor,
        weight_rule: Surrogate,
        *,
        steps: int,
        every: int,
        burn_in: int,
    ) -> Simulation:
        """Return the statistics of a record of all trials."""
        positive = teacher > 0
        pull = record.gradient * weight_rule.derivative(record.latent)
        wrong = ((record.latent >= 0) != positive).any(1)
        return cls(
            last_recovery=~wrong,
            ergodic_recovery=((record.sign_sum >= 0) == positive).all(1),
            first_hit=record.first_hit,
            fraction_at_teacher=record.visits.double() / (steps - burn_in),
            escapes=record.escapes,
            returns=record.returns,
            return_times=record.time_away.double() / record.returns,
            longest_return=record.longest_return,
            return_histogram=record.return_histogram,
            flips=record.flips,
            hamming=record.hamming,
            loss=record.loss,
            final_loss=record.final_loss,
            times=torch.arange(0, steps + 1, every),
            dead=~pull.any(1) & (record.final_loss > 0),
            evaluations=record.evaluations,
            latent=record.latent,
            v=record.v,
            average=record.sign_sum.double() / steps,
            teacher=teacher,
            teacher_gradient=record.teacher_gradient,
        )
