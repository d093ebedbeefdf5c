"""One row per backward rule: every check of the harness runs over this table.

A new rule is tested by adding its row: parameters, golden derivatives at |x| = POINTS (float64,
from the papers' formulas) and the integral of the derivative over the real line.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch

from ste_lightning import functional as SF

POINTS = (0.0, 0.05, 0.1, 0.5, 1.0, 1.5, 2.0)


@dataclass(frozen=True)
class Row:
    """A rule with parameters and what is known about it."""

    name: str
    golden: tuple[float, ...]  # f'(+|x|) at POINTS, four decimals
    integral: float  # over [-RANGE, RANGE]
    params: dict[str, Any] = field(default_factory=dict)
    kinks: tuple[float, ...] = ()  # |x| where f' jumps
    map: str = "sign"

    def rule(self) -> SF.Surrogate:
        return SF.surrogate(self.name, **self.params)

    def apply(self, x: torch.Tensor) -> torch.Tensor:
        quantize = SF.sign if self.map == "sign" else SF.step
        return quantize(x, self.rule())

    @property
    def id(self) -> str:
        return "-".join([self.name, *(f"{k}{v}" for k, v in self.params.items() if v != bell)])


RANGE = 40.0


def bell(x: torch.Tensor) -> torch.Tensor:
    """A user's rule, at module level so that it pickles."""
    return 1 / torch.cosh(x)


def _sigmoid(slope: float) -> tuple[float, ...]:
    return tuple(slope / (2 + 2 * math.cosh(slope * x)) for x in POINTS)


ROWS = (
    Row("identity", (1,) * 7, 2 * RANGE),
    Row("clipped", (1, 1, 1, 1, 1, 0, 0), 2, kinks=(1,)),
    Row("clipped", (1, 1, 1, 1, 0, 0, 0), 1.2, {"width": 0.6}, kinks=(0.6,)),
    Row("relu", (0, 1, 1, 1, 1, 1, 1), RANGE, kinks=(0,), map="step"),
    Row("clipped_relu", (0, 1, 1, 1, 0, 0, 0), 1, kinks=(0, 1), map="step"),
    Row("clipped_relu", (0, 1, 1, 0, 0, 0, 0), 0.5, {"upper": 0.5}, kinks=(0, 0.5), map="step"),
    Row("leaky", (1, 1, 1, 1, 1, 0.1, 0.1), 2 + 0.2 * (RANGE - 1), kinks=(1,)),
    Row("magnitude_aware", (20, 20, 20, 20, 20, 0, 0), 40, kinks=(1,)),
    Row("approx", (2, 1.9, 1.8, 1, 0, 0, 0), 2),
    Row("triangular", (1, 0.95, 0.9, 0.5, 0, 0, 0), 1),
    Row("triangular", (1, 0.975, 0.95, 0.75, 0.5, 0.25, 0), 2, {"width": 2.0}),
    Row("swish", (1, 0.9988, 0.995, 0.8825, 0.6047, 0.3124, 0.1001), 2, {"beta": 1.0}),
    Row("swish", (2, 1.99, 1.9604, 1.2095, 0.2002, -0.1293, -0.1311), 2, {"beta": 2.0}),
    Row("swish", (5, 4.8462, 4.4123, -0.0846, -0.195, -0.0303, -0.0036), 2),
    Row("reste", (1, 1, 1, 1, 1, 1, 0), 3, {"o": 1.0}, kinks=(1.5,)),
    Row("reste", (2.1544, 2.1544, 2.1544, 0.8399, 0.6667, 0.5824, 0), 2 * 1.5 ** (1 / 1.5),
        {"o": 1.5}, kinks=(0.1, 1.5)),
    Row("reste", (3.1623, 3.1623, 3.1623, 0.7071, 0.5, 0.4082, 0), 2.449, {"o": 2.0},
        kinks=(0.1, 1.5)),
    Row("reste", (4.6416, 4.6416, 4.6416, 0.5291, 0.3333, 0.2544, 0), 2.289, kinks=(0.1, 1.5)),
    Row("ede", (1, 1, 0.9999, 0.9975, 0.9901, 0.9778, 0.961), 20 * math.tanh(4),
        {"t": 0.1, "k": 10.0}),
    Row("ede", (1, 0.9975, 0.9901, 0.7864, 0.42, 0.1807, 0.0707), 2),
    Row("ede", (10, 7.8645, 4.1997, 0.0018, 0, 0, 0), 2, {"t": 10.0}),
    Row("tanh", (1, 0.9975, 0.9901, 0.7864, 0.42, 0.1807, 0.0707), 2),
    Row("sigmoid", _sigmoid(1.0), 1, map="step"),
    Row("sigmoid", _sigmoid(4.0), 1, {"slope": 4.0}, map="step"),
    Row("arctan", tuple(1 / (1 + (math.pi * x) ** 2) for x in POINTS),
        2 / math.pi * math.atan(math.pi * RANGE), map="step"),
    Row("superspike", (1, 0.907, 0.8264, 0.4444, 0.25, 0.16, 0.1111), 2 * RANGE / (1 + RANGE),
        map="step"),
    Row("gaussian", (0.3989, 0.3984, 0.397, 0.3521, 0.242, 0.1295, 0.054), 1, map="step"),
    Row("fourier", (1.2732, 1.2711, 1.2648, 1.0718, 0.5798, 0.0601, 0), 2.3580),
    Row("custom", tuple(1 / math.cosh(x) for x in POINTS), math.pi, {"derivative": bell}),
)  # fmt: skip
