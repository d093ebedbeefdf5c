"""Backend ``"numba"``: the compiled kernel, one chunk of trials per call, without the GIL."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from ste_lightning.theory.engine.families import Family
from ste_lightning.theory.engine.problem import Problem
from ste_lightning.theory.engine.record import Record

__all__ = ["run"]

_COUNTS = (
    "first_hit",
    "visits",
    "escapes",
    "returns",
    "time_away",
    "longest_return",
    "flips",
    "evaluations",
    "frozen_at",
)


def aligned(size: int) -> NDArray[np.float32]:
    """Return room for ``size`` floats that starts at a cache line."""
    room = np.empty(size + 16, np.float32)
    start = -room.ctypes.data % 64 // 4
    return room[start : start + size]


def run(
    problem: Problem,
    record: Record,
    *,
    steps: int,
    lr: float,
    rule: Family,
    weight_rule: Family,
    every: int = 1,
    burn_in: int = 0,
    lazy: bool = True,
) -> None:
    """Train all trials of ``problem`` by full-batch coarse gradients, into ``record``.

    Args:
        problem: the trials.
        record: an empty record; its ``latent`` and ``v`` are the start.
        steps: T.
        lr: step size on the coarse gradient with respect to w.
        rule: the step's backward rule, as family and parameters.
        weight_rule: the sign's.
        every: distance between the recorded points of the traces.
        burn_in: steps that do not count for visits, escapes and returns.
        lazy: recompute the gradient only after a flip; same bits as always recomputing.
    """
    from ste_lightning.theory.engine.kernel import run_trials

    _, samples, m, n = problem.inputs.shape
    # A multiple of 8 samples such that a unit's lanes, m per sample, fill whole tiles of 32.
    width = 8 * (4 // math.gcd(4, m))
    units = 2 * -(-samples // (2 * width))
    counts = torch.zeros(len(problem.inputs), len(_COUNTS), dtype=torch.int64)
    run_trials(
        problem.inputs.numpy(),
        problem.teacher.numpy(),
        problem.v_teacher.numpy(),
        problem.noise.numpy(),
        record.v.numpy(),
        record.latent.numpy(),
        width,
        aligned(units * width * m * n),
        steps,
        np.float32(lr),
        *rule,
        *weight_rule,
        lazy,
        every,
        burn_in,
        counts.numpy(),
        record.sign_sum.numpy(),
        record.hamming.numpy(),
        record.loss.numpy(),
        record.final_loss.numpy(),
        record.return_histogram.numpy(),
        record.gradient.numpy(),
        record.teacher_gradient.numpy(),
    )
    for name, column in zip(_COUNTS, counts.unbind(1), strict=True):
        getattr(record, name).copy_(column)
