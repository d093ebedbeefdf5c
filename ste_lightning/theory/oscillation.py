"""Weights that swing between two levels: what drives them, in closed form and measured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ste_lightning.errors import require, unknown
from ste_lightning.functional import hard_step
from ste_lightning.metrics import OscillationFrequency
from ste_lightning.models.streams import Stream, generator, normal
from ste_lightning.theory.grids import GAUSSIAN_STEPS, nearest

__all__ = ["METHODS", "Freezer", "pull", "scalar_prediction", "train_oscillating"]

METHODS = ("qat", "regularized", "dampened", "frozen")
MODELS = ("linear", "step")
_SLOPE = 1 / math.sqrt(2 * math.pi)  # of a step unit's expected coarse gradient in w, |w| = 1
_MOMENTUM, _OFTEN = 0.02, 0.02  # of the running means of freezing; the frequency that freezes


def scalar_prediction(
    target: Tensor, distance: float, curvature: Tensor, method: str, strength: Tensor
) -> Mapping[str, Tensor]:
    r"""Return what descent with one weight does for ever, in closed form.

    The loss :math:`\tfrac12 \kappa (q(w) - w^*)^2` has the straight-through gradient

    .. math:: \kappa (q(w) - w^*) = \kappa (w - w^*) + \kappa (q(w) - w)

    : the float loss's, and that of :math:`-\tfrac12 \kappa (w - q(w))^2`, which pushes w away from
    its nearest level. Let a < w* < b be levels, :math:`\Delta = b - a` and t = (a + b) / 2. Below
    t the weight climbs by :math:`\eta \kappa (w^* - a)` a step, above t it falls by
    :math:`\eta \kappa (b - w^*)`. So it circles in a band of width :math:`\eta \kappa \Delta`
    around t, for every step size, and with u = (w* - a) / Delta

    * it is at the upper level a share u of the steps: the mean of q(w) is w*;
    * it changes level in a share 2 min(u, 1 - u) of them.

    **regularized**: :math:`\kappa (w - w^*) + \lambda (q(w) - w)`, float training with that push.
    With d the distance from w* to its nearest level, the weight rests
    :math:`d / (1 - \lambda / \kappa)` from it if that is less than Delta / 2, else it circles.
    **dampened**: :math:`\kappa (q(w) - w^*) + 2 \lambda (w - q(w))`. It rests
    :math:`\kappa d / 2 \lambda` from the nearest level if that is less than Delta / 2, and from
    :math:`\lambda = \kappa / 2` on it always does.

    Args:
        target: w*, inside the grid.
        distance: Delta, between levels.
        curvature: kappa, the inputs' second moment.
        method: ``qat``, ``regularized`` or ``dampened``.
        strength: lambda / kappa.

    Returns:
        ``up`` (share of steps at the upper level, NaN where it rests), ``changes`` (share of steps
        that change level), ``rests`` (bool), ``band`` (its width per step size, 0 where it rests).

    Source: Wenshoj et al. 2025, arXiv 2502.00490 (the push); Nagel et al. 2022, arXiv 2203.11086
    (dampening); shares, bands and thresholds are derived here.
    """
    u = (target / distance) % 1.0
    d = torch.minimum(u, 1 - u)
    if method == "regularized":
        rests = d < (1 - strength) / 2
        # The push replaces all of the curvature at strength 1; the circle's steps then are QAT's.
        climb, fall = (u - 0.5) + strength / 2, (0.5 - u) + strength / 2
    elif method == "dampened":
        rests = d < strength
        climb, fall = u - strength, 1 - u - strength
    else:
        rests = torch.zeros_like(u, dtype=torch.bool)
        climb, fall = u, 1 - u
    up = climb / (climb + fall)
    nan = torch.full_like(u, math.nan)
    band = curvature * (climb + fall) * distance
    return {
        "up": torch.where(rests, nan, up),
        "changes": torch.where(rests, 0.0, 2 * torch.minimum(up, 1 - up)),
        "rests": rests,
        "band": torch.where(rests, 0.0, band),
    }


def pull(method: str, strength: float, latent: Tensor, quantized: Tensor) -> Tensor:
    """Return what a method adds to the gradient: the push from the level, or the pull to it."""
    if method == "regularized":
        return strength * (quantized - latent)
    if method == "dampened":
        return 2 * strength * (latent - quantized)
    return torch.zeros_like(latent)


class Freezer:
    """Holds weights that change level back and forth too often on the level they are at most.

    Source: Nagel et al. 2022, arXiv 2203.11086, algorithm 1; the package's callback is
    :class:`ste_lightning.callbacks.OscillationFreezing`.
    """

    def __init__(self, codes: Tensor, momentum: float = _MOMENTUM, often: float = _OFTEN) -> None:
        self.seen = OscillationFrequency(momentum)
        self.seen.update(codes.int())
        self.mean, self.frozen = codes.clone(), torch.zeros_like(codes, dtype=torch.bool)
        self.momentum, self.often, self.level = momentum, often, codes.clone()

    def step(self, codes: Tensor) -> Tensor:
        """Take the next codes and return those that count: frozen ones stay."""
        before = self.seen.previous.to(codes.dtype)
        codes = torch.where(self.frozen, self.level, codes)
        self.seen.update(codes.int())
        self.mean = torch.lerp(self.mean, codes, self.momentum)
        new = (self.seen.frequency > self.often) & ~self.frozen
        nearer = (codes - self.mean).abs() <= (before - self.mean).abs()
        self.level = torch.where(new, torch.where(nearer, codes, before), self.level)
        self.frozen |= new
        return torch.where(self.frozen, self.level, codes)


def train_oscillating(
    *,
    n: int,
    samples: int,
    trials: int = 64,
    steps: int = 1000,
    lr: float = 0.1,
    model: str = "linear",
    levels: int = 4,
    method: str = "qat",
    strength: float = 0.0,
    correlation: float = 0.0,
    seed: int = 0,
) -> dict[str, list[Any]]:
    r"""Train one unit with k-level weights on a teacher whose weights are real numbers.

    ``linear``: y = z^T w*, gradient :math:`\tfrac1N Z^T (Z q(w) - y)`. ``step``: y = step(z^T w*),
    the coarse gradient of :func:`ste_lightning.theory.simulate` for m = 1 and the identity. Inputs
    are normal with :math:`E z_i z_j = c^{|i - j|}`, teachers :math:`w^* \sim N(0, I / n)`.

    ``qat`` descends at q(w); ``regularized`` at w, with a push away from the nearest level, and
    rounds at the end (strength 0 is rounding alone); ``dampened`` at q(w), with a pull to the
    level; ``frozen`` at q(w), holding what changes too often. :func:`scalar_prediction` is what
    n = 1 must do.

    Args:
        n: inputs.
        samples: N.
        trials: independent problems.
        steps: T, on all samples.
        lr: step size.
        model: ``linear`` or ``step``.
        levels: k of the weights, evenly spaced and symmetric: 2, 3 (ternary), 4, 8 or 16.
        method: one of :data:`METHODS`.
        strength: of the push or pull, in units of the loss's mean curvature.
        correlation: c of neighbouring inputs, in [0, 1).
        seed: of everything random.

    Returns:
        Columns ``trial``, ``loss`` of the last quantized weights on infinitely many new inputs
        (``linear``: over that of w = 0; ``step``: angle / pi, the share of wrong outputs),
        ``changes`` (share of weights that change level in a step, over the second half), ``up``
        (share of steps at or above the first weight's upper neighbour, in the second half),
        ``band`` (of the first latent weight, in the second half, over lr), and with one linear
        weight their closed forms, ``expected_...``, ``inside`` (the target lies within the grid)
        and ``place`` (where between two levels, 0 to 1).
    """
    for argument, given, known in (("model", model, MODELS), ("method", method, METHODS)):
        if given not in known:
            raise unknown(argument, given, known)
    require(levels in GAUSSIAN_STEPS, "levels", levels, f"use one of {list(GAUSSIAN_STEPS)}")
    require(steps > 1, "steps", steps, "use at least 2")
    require(lr > 0, "lr", lr, "use a positive number")
    require(strength >= 0, "strength", strength, "use 0 or a positive number")
    require(0 <= correlation < 1, "correlation", correlation, "use a number in [0, 1)")
    place = torch.arange(n, dtype=torch.float64)
    covariance = correlation ** (place[:, None] - place).abs()
    mixed = torch.linalg.cholesky(covariance).float()
    target = normal(seed, Stream.TEACHER, trials, n) / n**0.5
    x = normal(seed, Stream.WEIGHT, trials, n) / n**0.5
    rows = torch.stack(
        [
            torch.from_numpy(
                generator(seed, Stream.INPUTS, t).standard_normal((samples, n), dtype="float32")
            )
            for t in range(trials)
        ]
    )
    rows = rows @ mixed.T
    y = torch.bmm(rows, target[..., None])
    y = hard_step(y) if model == "step" else y
    curvature = _SLOPE if model == "step" else 1.0

    def distance(x: Tensor) -> Tensor | float:
        # The length of w is nothing to a step unit; the grid follows it.
        rms = x.square().mean(1, keepdim=True).sqrt() if model == "step" else n**-0.5
        return GAUSSIAN_STEPS[levels] * rms

    def value(codes: Tensor, x: Tensor) -> Tensor:
        return (codes - (levels - 1) / 2) * distance(x)

    codes = nearest(x, levels, distance(x))
    freezer = Freezer(codes)  # of the second half
    first = torch.empty(2, steps, trials)
    changes = torch.zeros(trials)
    for step in range(steps):
        q = value(codes, x)
        a = torch.bmm(rows, (x if method == "regularized" else q)[..., None])
        residual = (hard_step(a) if model == "step" else a) - y
        g = torch.bmm(rows.mT, residual)[..., 0] / samples
        g += pull(method, curvature * strength, x, q)
        x = x - lr * (g * ~freezer.frozen)
        before, codes = codes, nearest(x, levels, distance(x))
        if method == "frozen" and 2 * step >= steps:
            codes = freezer.step(codes)
            x = torch.where(freezer.frozen, value(codes, x), x)
        if 2 * step >= steps:
            changes += (codes != before).float().mean(1)
        first[:, step] = torch.stack([codes[:, 0], x[:, 0]])
    half = steps // 2
    q = value(codes, x)
    late_codes, late = first[:, half:]
    lower = late_codes.amin(0)
    columns = {
        "trial": list(range(trials)),
        "loss": _population_loss(model, q, target, covariance).tolist(),
        "changes": (changes / (steps - half)).tolist(),
        "up": (late_codes > lower).float().mean(0).tolist(),
        "band": ((late.amax(0) - late.amin(0)) / lr).tolist(),
    }
    if n == 1 and model == "linear" and method != "frozen":
        width = float(distance(x))
        shifted = target[:, 0] + (levels - 1) / 2 * width
        inside = target[:, 0].abs() < (levels - 1) / 2 * width
        moment = rows.square().mean((1, 2))
        expected = scalar_prediction(shifted, width, moment, method, strength / moment)
        columns |= {f"expected_{key}": found.tolist() for key, found in expected.items()}
        columns |= {"inside": inside.tolist(), "place": (shifted / width % 1.0).tolist()}
    return columns


def _population_loss(model: str, q: Tensor, target: Tensor, covariance: Tensor) -> Tensor:
    q, target = q.double(), target.double()

    def product(a: Tensor, b: Tensor) -> Tensor:
        return ((a @ covariance) * b).sum(1)

    if model == "linear":
        return product(q - target, q - target) / product(target, target)
    cosine = product(q, target) / (product(q, q) * product(target, target)).sqrt().clamp(min=1e-12)
    return torch.acos(cosine.clamp(-1, 1)) / math.pi
