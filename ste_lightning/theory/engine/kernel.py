"""The fused kernel: all steps of one trial while its data stay in the cache.

Plain code to be compiled by numba; :mod:`ste_lightning.theory.engine.cpu` prepares its arrays,
:mod:`ste_lightning.theory.engine.passes` computes a step's gradient.

**Lazy gradients.** The full-batch gradient depends on the latent weights only through their
signs, so it is recomputed only after a sign has flipped, and looked up if the same signs have
come before (for n <= 64, in a table of the last patterns seen); a gradient that is exactly zero
can never flip a sign again, so the run is over. All exact: same bits as recomputing.
"""

from __future__ import annotations

import numpy as np

from ste_lightning.kernels.compiling import compiled, spliced
from ste_lightning.theory.engine.derivatives import differentiate
from ste_lightning.theory.engine.passes import coarse_gradient, label, pack
from ste_lightning.theory.engine.vector import LANES

__all__ = ["run_trials"]

_ZERO = np.float32(0.0)
_ONE = np.float32(1.0)
_SLOTS = 512  # sign patterns remembered per trial
_WORD = 64  # longest pattern that is remembered: its bits are the key
_MIX = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: multiplying spreads the bits


@spliced
def _quantize(x, w):  # type: ignore[no-untyped-def]
    """Write sign(x), with sign(0) = +1, to ``w``."""
    for k in range(len(x)):
        w[k] = _ONE if x[k] >= _ZERO else -_ONE


@spliced
def _pattern(w):  # type: ignore[no-untyped-def]
    """Return the signs as the bits of a number."""
    key = np.uint64(0)
    for k in range(len(w)):
        key = (key << np.uint64(1)) | np.uint64(w[k] > _ZERO)
    return key


@spliced
def _distance(w, teacher):  # type: ignore[no-untyped-def]
    count = 0
    for k in range(len(w)):
        count += 1 if w[k] != teacher[k] else 0
    return count


@compiled
def run_trials(  # type: ignore[no-untyped-def]
    inputs,
    teacher,
    v_teacher,
    noise,
    v,
    x,
    width,
    data,
    steps,
    lr,
    family,
    p,
    weight_family,
    weight_p,
    lazy,
    every,
    burn_in,
    counts,
    sums_of_w,
    hamming,
    losses,
    last_loss,
    histogram,
    gradient,
    teacher_gradient,
):
    """Train all trials of a chunk; every array's leading axis is the trial.

    Changed in place: ``x`` (latent weights) and everything from ``counts`` on. ``counts``
    columns: first hit (-1: never), iterates at the teacher, escapes, returns, total time of
    returns, longest return, flips, evaluations of the gradient, frozen at (step from which the
    gradient is exactly zero; -1).
    """
    trials, samples, m, n = inputs.shape
    units = 2 * ((samples + 2 * width - 1) // (2 * width))
    lanes = m * width
    w = np.empty(n, np.float32)
    since = np.empty(n, np.int64)  # first counted iterate with the present sign
    a = np.empty(lanes, np.float32)
    c = np.empty(lanes, np.float32)
    r = np.empty(width, np.float32)
    squares = np.empty(2 * width, np.float32)
    sums = np.empty(2 * n * LANES, np.float32)
    step = np.empty(n, np.float32)
    pull = np.empty(n, np.float32)
    y = np.empty(units * width, np.float32)
    bins = histogram.shape[1]
    remember = lazy and n <= _WORD
    slots = _SLOTS if remember else 1
    known = np.zeros(slots, np.bool_)
    keys = np.zeros(slots, np.uint64)
    known_losses = np.empty(slots, np.float32)
    known_gradients = np.empty((slots, n), np.float32)
    for t in range(trials):
        pack(inputs[t], units, width, data)
        label(data, units, n, m, width, teacher[t], v_teacher[t], noise[t], a, r, squares, y)
        g = gradient[t]
        latent = x[t]
        w[:] = teacher[t]
        since[:] = 1
        away, first, at, escapes, returns, total_return, longest, flips = 0, -1, 0, 0, 0, 0, 0, 0
        evaluations, frozen, left = 0, -1, -1
        loss = _ZERO
        stale = True
        known[:] = False
        for i in range(-1, steps + 1):
            if stale:
                slot = np.uint64(0)
                key = np.uint64(0)
                if remember:
                    key = _pattern(w)
                    slot = (key * _MIX) >> np.uint64(55)
                if remember and known[slot] and keys[slot] == key:
                    loss = known_losses[slot]
                    g[:] = known_gradients[slot]
                else:
                    loss = coarse_gradient(
                        data,
                        samples,
                        units,
                        n,
                        m,
                        width,
                        w,
                        v[t],
                        y,
                        family,
                        p,
                        a,
                        c,
                        r,
                        squares,
                        sums,
                        g,
                    )
                    evaluations += 1 if i < steps else 0
                    if remember:
                        known[slot] = True
                        keys[slot] = key
                        known_losses[slot] = loss
                        known_gradients[slot] = g
                stale = not lazy
                still = True
                for k in range(n):
                    step[k] = lr * g[k]
                    still &= g[k] == _ZERO
                if not still:
                    frozen = -1
                elif frozen < 0 and i < steps:
                    frozen = i
            if i < 0:
                # That was the teacher. Now the student, with nothing remembered.
                teacher_gradient[t] = g
                _quantize(latent, w)
                away = _distance(w, teacher[t])
                first = 0 if away == 0 else -1
                evaluations, frozen, stale = 0, -1, True
                known[:] = False
                continue
            if i % every == 0:
                hamming[t, i // every] = away
                losses[t, i // every] = loss
            if i == steps:
                break
            if lazy and frozen >= 0:
                # Nothing moves any more: the remaining iterates all equal this one.
                for later in range(i, steps + 1):
                    if later % every == 0:
                        hamming[t, later // every] = away
                        losses[t, later // every] = loss
                if away == 0:
                    at += steps - max(i, burn_in)
                break
            if weight_family == 0 and weight_p[2] == weight_p[3]:
                for k in range(n):
                    latent[k] -= step[k] * weight_p[2]
            else:
                differentiate(weight_family, weight_p, latent, _ONE, pull, n)
                for k in range(n):
                    latent[k] -= step[k] * pull[k]
            changed = 0
            for k in range(n):
                changed += 1 if (latent[k] >= _ZERO) != (w[k] > _ZERO) else 0
            if changed > 0:
                stale = True
                flips += changed
                before = away
                for k in range(n):
                    # Without branches: which signs flip cannot be foreseen.
                    flip = (latent[k] >= _ZERO) != (w[k] > _ZERO)
                    age = i + 1 - since[k]
                    sums_of_w[t, k] += (age if w[k] > _ZERO else -age) if flip else 0
                    since[k] = i + 1 if flip else since[k]
                    away += (1 if w[k] == teacher[t, k] else -1) if flip else 0
                    w[k] = -w[k] if flip else w[k]
                if before == 0 and away > 0:
                    left = i + 1
                    if i >= burn_in:
                        escapes += 1
                elif away == 0 and before > 0:
                    if first < 0:
                        first = i + 1
                    if left >= 0 and left > burn_in:
                        length = i + 1 - left
                        returns += 1
                        total_return += length
                        longest = max(longest, length)
                        histogram[t, min(length, bins) - 1] += 1
            if away == 0 and i >= burn_in:
                at += 1
        for k in range(n):
            sums_of_w[t, k] += (steps + 1 - since[k]) * np.int64(w[k])
        last_loss[t] = loss
        row = counts[t]
        row[0], row[1], row[2], row[3], row[4] = first, at, escapes, returns, total_return
        row[5], row[6], row[7], row[8] = longest, flips, evaluations, frozen
