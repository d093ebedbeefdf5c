"""Backend ``"numba"``: the compiled kernel, one chunk of trials per call, without the GIL."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from ste_lightning.theory.engine.families import Family
from ste_lightning.theory.engine.problem import Problem
from ste_lightning.theory.engine.record import Record

__all__ = ["aligned", "run"]


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
    # Imported where it is used: what only reads about simulations needs no compiler.
    from ste_lightning.theory.engine.kernel import Given, Kept, Plan, run_trials
    from ste_lightning.theory.engine.visits import COUNTS

    trials, samples, m, n = problem.inputs.shape
    # A multiple of 8 samples such that a unit's lanes, m per sample, fill whole tiles of 32.
    width = 8 * (4 // math.gcd(4, m))
    units = 2 * -(-samples // (2 * width))
    counts = torch.zeros(trials, len(COUNTS), dtype=torch.int64)
    given = (problem.inputs, problem.teacher, problem.v_teacher, problem.noise, record.v)
    kept = (record.latent, counts, *(getattr(record, name) for name in Kept._fields[2:]))
    run_trials(
        Given(*(tensor.numpy() for tensor in given)),
        Plan(steps, np.float32(lr), *rule, *weight_rule, lazy, every, burn_in),
        Kept(*(tensor.numpy() for tensor in kept)),
        width,
        aligned(units * width * m * n),
    )
    for name, column in zip(COUNTS, counts.unbind(1), strict=True):
        getattr(record, name).copy_(column)
