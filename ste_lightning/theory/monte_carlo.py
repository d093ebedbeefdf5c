"""The coarse gradient on sampled data, to hold the closed forms against."""

from __future__ import annotations

import math
from typing import Any

import torch

from ste_lightning import functional as SF
from ste_lightning.errors import require, unknown
from ste_lightning.models.streams import Stream, normal
from ste_lightning.theory.population import coarse_gradient, loss

__all__ = ["sample_coarse_gradient"]

_CHUNK = 50_000


def sample_coarse_gradient(
    *,
    n: int = 4,
    m: int = 3,
    samples: int,
    angle: float,
    rule: str = "relu",
    v: str = "teacher",
    length: float = 1.0,
    seed: int = 0,
) -> dict[str, list[Any]]:
    r"""Sample loss and coarse gradient of one student, and compute what theory expects.

    .. math:: \frac1N \sum_i Z_i^T (f'(Z_i w) \circ v)(v^T \mathrm{step}(Z_i w)
              - v^{*T} \mathrm{step}(Z_i w^*)), \quad Z_i \sim N(0, 1)^{m \times n}

    Args:
        n: inputs, at least 2.
        m: rows of a sample.
        samples: N; the errors fall as its root.
        angle: between w and w*, in degrees.
        rule: the step's backward rule.
        v: the student's second layer: ``teacher`` (v = v*) or ``other`` (independent of it).
        length: of w; default 1, that of binary weights.
        seed: of data and second layers.

    Returns:
        Columns ``quantity`` (``along`` w, ``across`` it towards w*, ``aside`` 1 to n - 2,
        ``loss``), ``expected``, ``observed`` and ``error``, the observation's standard error.
    """
    require(n > 1, "n", n, "use at least 2 inputs")
    require(samples > 1, "samples", samples, "use at least 2")
    if v not in ("teacher", "other"):
        raise unknown("v", v, ("teacher", "other"))
    surrogate = SF.surrogate(rule)
    theta = math.radians(angle)
    w, w_star = torch.zeros(2, n, dtype=torch.float64)
    w[0], w_star[0], w_star[1] = length, math.cos(theta), math.sin(theta)
    first, second = torch.nn.functional.normalize(normal(seed, Stream.V, 2, m).double())
    v_star, own = first, first if v == "teacher" else second

    generator = torch.Generator().manual_seed(seed)
    total, squares = torch.zeros(2, n + 1, dtype=torch.float64)
    for start in range(0, samples, _CHUNK):
        Z = torch.randn(min(_CHUNK, samples - start), m, n, generator=generator).double()
        a = Z @ w
        residual = SF.hard_step(a) @ own - SF.hard_step(Z @ w_star) @ v_star
        weight = surrogate.derivative(a) * own * residual[:, None]
        each = torch.cat([(weight[:, None] @ Z)[:, 0], residual.square()[:, None] / 2], 1)
        total += each.sum(0)
        squares += each.square().sum(0)
    mean = total / samples
    error = ((squares / samples - mean.square()).clamp(min=0) / samples).sqrt()
    expected = torch.cat(
        [
            coarse_gradient(w, w_star, own, v_star, surrogate),
            loss(w, w_star, own, v_star)[None],
        ]
    )
    aside = [f"aside {k}" for k in range(1, n - 1)]
    return {
        "quantity": ["along", "across", *aside, "loss"],
        "expected": expected.tolist(),
        "observed": mean.tolist(),
        "error": error.tolist(),
    }
