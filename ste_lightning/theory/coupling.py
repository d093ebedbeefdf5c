r"""Recurrence under label noise with the coordinates' coupling, from 4n + 1 gradients near w*.

:mod:`ste_lightning.theory.prediction` lets every coordinate rotate by itself, driven back by the
population's drift D. On a given data set a wrong sign also pushes the others, and by more than
the noise does: that decides how long an excursion lasts. Let s be the indicator of the wrong
signs and h(s)_i = g_i sign(w*_i) the coarse gradient there, positive where it leads away from
w*. Near w* it is linear to a good approximation,

    h(s) = a - M s,

a the drifts at w* and M_ij what the wrong sign of j takes from the drift of i: D in the mean for
i = j, about D sqrt(n / N) in size and of mean zero for i != j. Two consequences:

*Time.* A latent weight that returns for ever has no drift in the mean, and one that never
returns drifts away from zero. So the shares p_i of the time that signs are wrong solve the
linear complementarity problem

    0 <= p <= 1,   a - M p <= 0 where p < 1,   a - M p >= 0 where p > 0,

and the time at w* is about prod_i (1 - p_i). With M = D it is the decoupled p_i = max(a_i, 0)/D.

*Escapes and returns.* They follow from the walk u <- u - (a - M 1[u < 0]) of n numbers, which
needs no data any more: it is the training run with its gradient linearized.

Source: our own argument for the recurrence that arXiv 2505.18113 v2 proves.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from ste_lightning import functional as SF
from ste_lightning.errors import require
from ste_lightning.models.coarse_gradient import evaluate
from ste_lightning.theory.prediction import RecurrencePrediction

__all__ = ["LinearDrift", "linear_drift", "occupation", "predict_coupled_recurrence"]


@dataclasses.dataclass(frozen=True)
class LinearDrift:
    """The linearized drift h(s) = a - M s of each trial near its teacher.

    Attributes:
        gradient: coarse gradient at w*, shape (trials, n).
        adverse: a, drift at w*, positive away from it, shape (trials, n).
        matrix: M, shape (trials, n, n).
        occupation: p, share of the steps coordinate i is wrong, shape (trials, n).
    """

    gradient: Tensor
    adverse: Tensor
    matrix: Tensor
    occupation: Tensor

    @property
    def fraction(self) -> Tensor:
        """Share of the steps at w* if coordinates are wrong independently, prod_i (1 - p_i)."""
        return (1 - self.occupation).prod(1)


def linear_drift(
    Z: Tensor,
    y: Tensor,
    teacher: Tensor,
    v: Tensor,
    rule: str | SF.Surrogate = "relu",
    rounds: int = 3,
    seed: int = 0,
) -> LinearDrift:
    """Measure a and M on a data set, and solve for the shares of time p.

    a is the gradient at w*. M is fitted by least squares to the gradients with one sign wrong,
    n of them, and with signs wrong at random, coordinate i with the chance p_i that the fit so
    far predicts, n more a round: at strong noise many signs are wrong at once, and what they do
    together is not the sum of what they do alone.

    Args:
        Z: inputs, shape (trials, N, m, n).
        y: noisy labels, shape (trials, N).
        teacher: w*, of which the signs count, shape (trials, n).
        v: second layer of student and teacher, shape (trials, m).
        rule: the step's backward rule.
        rounds: of n random patterns each; 0 takes single flips alone.
        seed: of the random patterns.
    """
    require(rounds >= 0, "rounds", rounds, "use 0 or a positive integer")
    surrogate, sign = SF.surrogate(rule), SF.hard_sign(teacher)
    trials, n = sign.shape

    def drift(wrong: Tensor) -> Tensor:
        flipped = torch.where(wrong, -sign, sign)
        return (evaluate(Z, y, flipped, v, surrogate)[1] * sign).double()

    generator = torch.Generator().manual_seed(seed)
    alone = torch.eye(n, dtype=torch.bool, device=sign.device).expand(trials, n, n)
    gradient = evaluate(Z, y, sign, v, surrogate)[1]
    adverse = (gradient * sign).double()
    patterns = list(alone.unbind(1))
    taken = [adverse - drift(wrong) for wrong in patterns]
    matrix = torch.stack(taken, 2)
    p = occupation(adverse, matrix)
    for _ in range(rounds):
        for _ in range(n):
            chance = torch.rand(trials, n, generator=generator, dtype=torch.float64)
            patterns.append(chance.to(p.device) < p)
            taken.append(adverse - drift(patterns[-1]))
        s, t = torch.stack(patterns, 1).double(), torch.stack(taken, 1)
        matrix = torch.linalg.solve(s.mT @ s, s.mT @ t).mT
        p = occupation(adverse, matrix)
    return LinearDrift(gradient, adverse, matrix, p)


def occupation(adverse: Tensor, matrix: Tensor, sweeps: int = 200) -> Tensor:
    """Solve the complementarity problem of the module's text by projected Gauss-Seidel.

    Args:
        adverse: a, (trials, n), float64.
        matrix: M, (trials, n, n).
        sweeps: at most.

    Returns:
        p, (trials, n).
    """
    p = torch.zeros_like(adverse)
    diagonal = matrix.diagonal(dim1=1, dim2=2).clamp(min=1e-12)
    # p_i <- clamp((a_i - sum over j != i of M_ij p_j) / M_ii)
    others = (matrix / diagonal[:, :, None]).diagonal_scatter(torch.zeros_like(p), 0, 1, 2)
    alone = (adverse / diagonal).unbind(1)
    equations = list(zip(p.unbind(1), alone, others.unbind(1), strict=True))
    for _ in range(sweeps):
        before = p.clone()
        for entry, a, row in equations:
            entry.copy_((a - (row * p).sum(1)).clamp_(0, 1))
        if float((p - before).abs().max()) < 1e-9:
            break
    return p


def predict_coupled_recurrence(
    drift: LinearDrift, starts: int = 16, steps: int = 3000, burn_in: int = 500, seed: int = 0
) -> RecurrencePrediction:
    """Predict escapes from w* and returns to it by the walk of the linearized drift.

    The step size is 1: another one only scales the walk.

    Args:
        drift: of each trial, from :func:`linear_drift`.
        starts: walks a trial, from w* with |u_i| uniform over the drift of one wrong sign.
        steps: of a walk.
        burn_in: steps that are not counted.
        seed: of the starts.

    Returns:
        Fraction, escapes per step and mean return time (NaN without an escape) of the walks;
        ``rotation`` is ``drift.occupation``.
    """
    for argument, value in {"starts": starts, "steps": steps}.items():
        require(value > 0, argument, value, "use a positive integer")
    require(0 <= burn_in < steps, "burn_in", burn_in, f"use 0 to steps - 1 = {steps - 1}")
    trials, n = drift.adverse.shape
    device = drift.adverse.device
    width = drift.matrix.diagonal(dim1=1, dim2=2).abs()[:, None]
    generator = torch.Generator().manual_seed(seed)
    u = torch.rand(trials, starts, n, generator=generator, dtype=torch.float64).to(device) * width
    push, pull = drift.adverse[:, None], drift.matrix.mT.contiguous()
    was_there = torch.zeros(trials, starts, dtype=torch.bool, device=device)
    visits, escapes = torch.zeros(2, trials, starts, dtype=torch.float64, device=device)
    for step in range(steps):
        wrong = u < 0
        there = ~wrong.any(2)
        if step >= burn_in:
            visits += there
            escapes += was_there & ~there
        was_there = there
        u = u - (push - wrong.double() @ pull)
    counted = starts * (steps - burn_in)
    fraction, rate = visits.sum(1) / counted, escapes.sum(1) / counted
    away = torch.where(rate > 0, (1 - fraction) / rate, torch.nan)
    return RecurrencePrediction(fraction, rate, away, drift.occupation)
