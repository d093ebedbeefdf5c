"""A backward rule on the weights against the identity, after a change of start and step size.

**Why they should agree.** With the rule f' on the weights' sign, descent moves
x <- x - lr f'(x) g(sign x). Let F(x) be the integral of 1/f' from 0 to x: it keeps signs, and
F(x - lr f' g) = F(x) - lr g + O(lr^2). So y = F(x) follows the identity's y <- y - lr g(sign y),
and after 1/lr steps the two differ by O(lr). What this takes is that f' > 0 on the way: where
f' = 0 a weight stays for ever and F is infinite. Adam divides a gradient by its size over the
last 1/(1 - beta2) steps, so f' drops out, and nothing need be changed, if it hardly changes
meanwhile: if lr/(1 - beta2) is small against the distance on which f' changes.

Source: Schoenbauer, Moro, Lew, Howard, arXiv 2405.05171 (the claim); the argument here is ours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ste_lightning import functional as SF
from ste_lightning.data import TeacherStudent
from ste_lightning.errors import require, unknown
from ste_lightning.models.streams import Stream, normal

__all__ = ["Stretch", "compare_rule"]

_REACH = 8.0  # weights beyond it do not occur
_POINTS = 200_001
_LEAST_STEPS = 30
_EDGE = 0.98  # starts are inside the window, where the rule has one


class Stretch:
    r"""The change of variables :math:`F(x) = f'(0) \int_0^x ds / f'(s)`, for even f' > 0.

    The factor f'(0) makes it the identity near 0; it is the change of the step size.

    Args:
        rule: the backward rule; F ends where f' is no longer positive.

    Attributes:
        edge: the largest |x| in F's domain.
    """

    def __init__(self, rule: SF.Surrogate) -> None:
        x = torch.linspace(0, _REACH, _POINTS, dtype=torch.float64)
        slope = rule.derivative(x.float()).double()
        require(bool(slope[0] > 0), "rule", rule, "use one with f'(0) > 0")
        self.slope = float(slope[0])
        positive = slope > 1e-6 * slope[0]
        kept = len(x) if positive.all() else int(positive.int().argmin())
        area = torch.cumulative_trapezoid(self.slope / slope[:kept], x[:kept])
        self._x, self._y = x[:kept].numpy(), np.concatenate([[0.0], area.numpy()])
        self.edge = float(x[kept - 1])

    def __call__(self, x: Tensor) -> Tensor:
        """Return F(x)."""
        return torch.from_numpy(np.interp(x.abs().numpy(), self._x, self._y)) * x.sign()

    def inverse(self, y: Tensor) -> Tensor:
        """Return the x with F(x) = y, at most ``edge`` in size."""
        return torch.from_numpy(np.interp(y.abs().numpy(), self._y, self._x)) * y.sign()


class _Problems:
    """Full-batch coarse gradients of independent problems, with the identity at the units."""

    def __init__(self, data: TeacherStudent) -> None:
        inputs, self.labels = data.train_data
        self.trials, self.samples, m, n = inputs.shape
        self.rows = inputs.view(self.trials, self.samples * m, n)
        self.v = torch.full((m,), m**-0.5)
        self.scale = n**-0.5

    def gradient(self, positive: Tensor, which: Tensor) -> Tensor:
        """Return g for the signs ``positive`` (K, n) of the trials ``which`` (K)."""
        rows = self.rows[which]
        w = (2.0 * positive.float() - 1.0) * self.scale
        active = (torch.bmm(rows, w[:, :, None]) > 0).float()
        residual = active.view(len(w), self.samples, -1) @ self.v - self.labels[which]
        weighed = (residual[..., None] * self.v).view(len(w), 1, -1)
        return torch.bmm(weighed, rows)[:, 0].double() / self.samples

    def train(
        self, start: Tensor, rule: SF.Surrogate, lr: float, steps: int, betas: tuple[float, float]
    ) -> Tensor:
        """Return the latent weights after ``steps``; with ``betas`` of 0 plain descent's."""
        x, first, second = start.clone(), torch.zeros_like(start), torch.zeros_like(start)
        positive = x >= 0
        g = self.gradient(positive, torch.arange(self.trials))
        for step in range(1, steps + 1):
            pull = rule.derivative(x.float()).double() * g
            if any(betas):
                first.lerp_(pull, 1 - betas[0])
                second.lerp_(pull.square(), 1 - betas[1])
                size = (second / (1 - betas[1] ** step)).sqrt_().add_(1e-12)
                pull = first / (1 - betas[0] ** step) / size
            x -= lr * pull
            now = x >= 0
            # The gradient depends on the signs alone.
            changed = (now != positive).any(1).nonzero()[:, 0]
            positive = now
            if len(changed):
                g[changed] = self.gradient(positive[changed], changed)
        return x


def compare_rule(
    *,
    n: int,
    m: int = 4,
    samples: int,
    trials: int = 32,
    rule: str | Mapping[str, Any] = "tanh",
    optimizer: str = "sgd",
    lr: float = 0.1,
    beta2: float = 0.99,
    time: float = 12.0,
    init_scale: float = 0.4,
    seed: int = 0,
) -> dict[str, list[Any]]:
    r"""Train with a rule on the weights and with the identity, and compare where they end.

    The distance of two ends is :math:`\|x - x'\| / \|x - x_0\|` in the rule's latent weights: 0 if
    the identity's run is the rule's in disguise, of order 1 if they have nothing in common.

    Args:
        n: inputs.
        m: rows of a sample; v = ones / sqrt(m).
        samples: N.
        trials: independent problems.
        rule: backward rule of the weights' sign, with f'(0) > 0.
        optimizer: ``sgd``: the identity starts at F(x_0) and takes steps f'(0) times the rule's;
            ``adam``: it starts at x_0 and takes the same steps.
        lr: step size of the identity; the rule's is lr / f'(0) (``adam``: lr).
        beta2: Adam's memory of squared gradients; beta1 is 0.9.
        time: lr times the number of steps, of which there are 30 at least.
        init_scale: standard deviation of x_0, which is clipped to 0.98 of the rule's window.
        seed: of everything random.

    Returns:
        Columns ``trial``; ``distance``; ``unchanged``, the same where the identity begins at x_0;
        ``signs``, the share of signs in which rule and identity differ at the end; ``outside``,
        the share of weights that end where f' is 0; ``recovered``, whether the rule's run found
        the teacher.
    """
    if optimizer not in ("sgd", "adam"):
        raise unknown("optimizer", optimizer, ("sgd", "adam"))
    require(lr > 0, "lr", lr, "use a positive number")
    require(0 <= beta2 < 1, "beta2", beta2, "use a number in [0, 1)")
    require(time > 0, "time", time, "use a positive number")
    backward, identity = SF.surrogate(rule), SF.surrogate("identity")
    stretch = Stretch(backward)
    data = TeacherStudent(n, m, samples, trials, seed=seed)
    problems = _Problems(data)
    x0 = init_scale * normal(seed, Stream.WEIGHT, trials, n).double()
    x0 = x0.clamp(-_EDGE * stretch.edge, _EDGE * stretch.edge)
    steps = max(_LEAST_STEPS, math.ceil(time / lr))
    plain = optimizer == "sgd"
    betas = (0.0, 0.0) if plain else (0.9, beta2)
    step = lr / stretch.slope if plain else lr
    x = problems.train(x0, backward, step, steps, betas)
    unchanged = problems.train(x0, identity, lr, steps, betas)
    twin = unchanged
    if plain:
        twin = stretch.inverse(problems.train(stretch(x0), identity, lr, steps, betas))
    moved = (x - x0).norm(dim=1)
    right = data.teacher[0] > 0
    return {
        "trial": list(range(trials)),
        "distance": ((x - twin).norm(dim=1) / moved).tolist(),
        "unchanged": ((x - unchanged).norm(dim=1) / moved).tolist(),
        "signs": ((x >= 0) != (twin >= 0)).double().mean(1).tolist(),
        "outside": (backward.derivative(x.float()) == 0).double().mean(1).tolist(),
        "recovered": ((x >= 0) == right).all(1).tolist(),
    }
