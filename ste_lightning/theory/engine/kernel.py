"""The fused kernel: all steps of one trial while its data stay in the cache.

Plain code to be compiled by numba; :mod:`ste_lightning.theory.engine.cpu` prepares its arrays,
:mod:`ste_lightning.theory.engine.passes` computes a step's gradient,
:mod:`ste_lightning.theory.engine.visits` counts what happens.

**Lazy gradients.** The full-batch gradient depends on the latent weights only through their
signs, so it is recomputed only after a sign has flipped, and looked up if the same signs have
come before (for n <= 64, in a table of the last patterns seen); a gradient that is exactly zero
can never flip a sign again, so the run is over. All exact: same bits as recomputing.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ste_lightning.kernels.jit.arrays import empty, zeros
from ste_lightning.kernels.jit.compiling import compiled, inlined
from ste_lightning.theory.engine.derivatives import differentiate
from ste_lightning.theory.engine.passes import coarse_gradient, label, pack
from ste_lightning.theory.engine.vector import LANES
from ste_lightning.theory.engine.visits import (
    EVALUATIONS,
    FIRST,
    FLIPS,
    FROZEN,
    VISITS,
    distance,
    flip,
    quantize,
    visit,
)

__all__ = ["Given", "Kept", "Plan", "run_trials"]

_ZERO = np.float32(0.0)
_ONE = np.float32(1.0)
_SLOTS = 512  # sign patterns remembered per trial
_WORD = 64  # longest pattern that is remembered: its bits are the key
_MIX = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: multiplying spreads the bits


class Given(NamedTuple):
    """Arrays of the trials to be run, as in :class:`..problem.Problem`; nothing is written."""

    inputs: Any
    teacher: Any
    v_teacher: Any
    noise: Any
    v: Any


class Plan(NamedTuple):
    """What is done with each trial: arguments of :func:`..cpu.run`."""

    steps: int
    lr: Any
    family: Any
    p: Any
    weight_family: Any
    weight_p: Any
    lazy: bool
    every: int
    burn_in: int


class Kept(NamedTuple):
    """Arrays that are written, as in :class:`..record.Record`, the trial leading.

    ``latent`` holds the start; ``counts`` has the columns that :mod:`..visits` names.
    """

    latent: Any
    counts: Any
    sign_sum: Any
    hamming: Any
    loss: Any
    final_loss: Any
    return_histogram: Any
    gradient: Any
    teacher_gradient: Any


class _Memory(NamedTuple):
    """Gradients of the last sign patterns, one per slot."""

    known: Any
    keys: Any
    losses: Any
    gradients: Any


@inlined
def _pattern(w):  # type: ignore[no-untyped-def]
    """Return the signs as the bits of a number."""
    key = np.uint64(0)
    for k in range(len(w)):
        key = (key << np.uint64(1)) | np.uint64(w[k] > _ZERO)
    return key


@inlined
def _move(latent, plan, step, pull):  # type: ignore[no-untyped-def]
    """``x <- x - step h'(x)``, the step being lr g."""
    n = len(latent)
    if plan.weight_family == 0 and plan.weight_p[2] == plan.weight_p[3]:
        for k in range(n):
            latent[k] -= step[k] * plan.weight_p[2]
    else:
        differentiate(plan.weight_family, plan.weight_p, latent, _ONE, pull, n)
        for k in range(n):
            latent[k] -= step[k] * pull[k]


@compiled
def run_trials(given, plan, kept, width, data):  # type: ignore[no-untyped-def]
    """Train all trials of a chunk.

    Args:
        given: a :class:`Given`.
        plan: a :class:`Plan`.
        kept: a :class:`Kept`, written.
        width: samples of a unit, see :mod:`..passes`.
        data: room for a trial's packed inputs.
    """
    trials, samples, m, n = given.inputs.shape
    steps, lazy, every, burn_in = plan.steps, plan.lazy, plan.every, plan.burn_in
    units = 2 * ((samples + 2 * width - 1) // (2 * width))
    w = empty(n, np.float32)
    since = empty(n, np.int64)  # first counted iterate with the present sign
    a = empty(m * width, np.float32)
    c = empty(m * width, np.float32)
    r = empty(width, np.float32)
    squares = empty(2 * width, np.float32)
    sums = empty(2 * n * LANES, np.float32)
    step = empty(n, np.float32)
    pull = empty(n, np.float32)
    y = empty(units * width, np.float32)
    remember = lazy and n <= _WORD
    slots = _SLOTS if remember else 1
    memory = _Memory(
        zeros(slots, np.bool_),
        zeros(slots, np.uint64),
        empty(slots, np.float32),
        np.empty((slots, n), np.float32),
    )
    for t in range(trials):
        teacher, v_teacher, noise = given.teacher[t], given.v_teacher[t], given.noise[t]
        latent, g, row = kept.latent[t], kept.gradient[t], kept.counts[t]
        sign_sum, histogram = kept.sign_sum[t], kept.return_histogram[t]
        hamming, losses = kept.hamming[t], kept.loss[t]
        pack(given.inputs[t], units, width, data)
        label(data, units, n, m, width, teacher, v_teacher, noise, a, r, squares, y)
        w[:] = teacher
        since[:] = 1
        row[:] = 0
        # What every step touches stays in registers.
        away, left, visits, flips, evaluations, frozen = 0, -1, 0, 0, 0, -1
        loss = _ZERO
        stale = True
        memory.known[:] = False
        for i in range(-1, steps + 1):
            if stale:
                slot = np.uint64(0)
                key = np.uint64(0)
                if remember:
                    key = _pattern(w)
                    slot = (key * _MIX) >> np.uint64(55)
                if remember and memory.known[slot] and memory.keys[slot] == key:
                    loss = memory.losses[slot]
                    g[:] = memory.gradients[slot]
                else:
                    loss = coarse_gradient(
                        data,
                        samples,
                        units,
                        n,
                        m,
                        width,
                        w,
                        given.v[t],
                        y,
                        plan.family,
                        plan.p,
                        a,
                        c,
                        r,
                        squares,
                        sums,
                        g,
                    )
                    evaluations += 1 if i < steps else 0
                    if remember:
                        memory.known[slot] = True
                        memory.keys[slot] = key
                        memory.losses[slot] = loss
                        memory.gradients[slot] = g
                stale = not lazy
                still = True
                for k in range(n):
                    step[k] = plan.lr * g[k]
                    still &= g[k] == _ZERO
                if not still:
                    frozen = -1
                elif frozen < 0 and i < steps:
                    frozen = i
            if i < 0:
                # That was the teacher. Now the student, with nothing remembered.
                kept.teacher_gradient[t] = g
                quantize(latent, w)
                away = distance(w, teacher)
                row[FIRST] = 0 if away == 0 else -1
                evaluations, frozen, stale = 0, -1, True
                memory.known[:] = False
                continue
            if i % every == 0:
                hamming[i // every] = away
                losses[i // every] = loss
            if i == steps:
                break
            if lazy and frozen >= 0:
                # Nothing moves any more: the remaining iterates all equal this one.
                for later in range(i, steps + 1):
                    if later % every == 0:
                        hamming[later // every] = away
                        losses[later // every] = loss
                if away == 0:
                    visits += steps - max(i, burn_in)
                break
            _move(latent, plan, step, pull)
            changed = 0
            for k in range(n):
                changed += 1 if (latent[k] >= _ZERO) != (w[k] > _ZERO) else 0
            if changed > 0:
                stale = True
                flips += changed
                before = away
                away += flip(latent, w, teacher, since, sign_sum, i + 1)
                left = visit(row, histogram, before, away, left, i + 1, burn_in)
            if away == 0 and i >= burn_in:
                visits += 1
        for k in range(n):
            sign_sum[k] += (steps + 1 - since[k]) * np.int64(w[k])
        kept.final_loss[t] = loss
        row[VISITS], row[FLIPS], row[EVALUATIONS], row[FROZEN] = visits, flips, evaluations, frozen
