"""One coarse gradient of few samples, by the window of its rule: against the closed form."""

from __future__ import annotations

import math
from typing import Any

import torch

from ste_lightning.errors import require
from ste_lightning.models.streams import Stream, generator, normal
from ste_lightning.theory.window import noise, signal

__all__ = ["expected_cosine", "sample_window"]


def expected_cosine(n: int, m: int, samples: int, wrong: int, width: float) -> float:
    r"""Return the expected cosine between the step of N samples and the way to the teacher.

    .. math:: \frac{\sqrt{h} \cdot \text{pull}}{\sqrt{h\,\text{pull}^2 + (n - h)\,\text{drift}^2
              + n^2 \sigma^2 / N}}, \quad h \text{ signs wrong},

    by :func:`ste_lightning.theory.window.signal` and :func:`ste_lightning.theory.window.noise`.

    Args:
        n: inputs.
        m: equal hidden units.
        samples: N.
        wrong: h, signs that are wrong, 1 to n - 1.
        width: of the window; infinity is the identity.
    """
    require(0 < wrong < n, "wrong", wrong, f"use 1 to n - 1 = {n - 1}")
    theta = math.acos(1 - 2 * wrong / n)
    pull, drift = signal(width, theta)
    size = wrong * pull**2 + (n - wrong) * drift**2
    return math.sqrt(wrong * pull**2 / (size + n**2 * noise(width, theta, 1 / m) / samples))


def sample_window(
    *,
    n: int,
    m: int = 4,
    samples: int,
    wrong: int,
    width: float,
    trials: int = 200,
    seed: int = 0,
) -> dict[str, list[Any]]:
    r"""Draw data sets, and compare a step from a student with few wrong signs with the way to w*.

    Args:
        n: inputs.
        m: hidden units, v = 1/sqrt(m) each.
        samples: N.
        wrong: signs that the student has wrong.
        width: of the rule f' = 1 where abs(a) <= width.
        trials: data sets, the same for every width.
        seed: of everything random.

    Returns:
        Columns ``trial``, ``cosine`` (between -g and w* - w; 0 for g = 0) and ``expected``.
    """
    for argument, value in {"m": m, "samples": samples, "trials": trials}.items():
        require(value > 0, argument, value, "use a positive integer")
    expected = expected_cosine(n, m, samples, wrong, width)
    cosines = []
    for trial in range(trials):
        Z = normal(seed, Stream.INPUTS, 1, samples * m * n, first=trial).view(samples, m, n)
        teacher = generator(seed, Stream.TEACHER, trial).choice([-1.0, 1.0], n) / math.sqrt(n)
        w_star = torch.from_numpy(teacher).float()
        w = w_star.clone()
        w[:wrong] *= -1
        a = Z @ w
        residual = ((a >= 0).float() - (Z @ w_star >= 0).float()).sum(1)  # times sqrt(m)
        g = torch.einsum("im,imn->n", (a.abs() <= width) * residual[:, None], Z)
        cosines.append(float(torch.cosine_similarity(g, w - w_star, dim=0)))
    return {"trial": list(range(trials)), "cosine": cosines, "expected": [expected] * trials}
