"""One row per quantizer configuration: every check of the harness runs over this table.

The golden values are computed by hand from the papers' equations, in float64, for the weights W
and the activations X below; gradients are those of the sum of the outputs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from ste_lightning.quantizers import Quantizer, build
from ste_lightning.quantizers.quantizer import Operand

Matrix = list[list[float]]

W: Matrix = [[0.9, -0.4, 0.1, -1.2], [0.2, 0.55, -0.7, 0.05]]  # mean|W| = 0.65 and 0.375 by row
X: Matrix = [[-0.5, 0.0, 0.2, 0.4], [0.8, 1.0, 1.3, 3.0]]
ONES: Matrix = [[1, 1, 1, 1], [1, 1, 1, 1]]
SIGNS_W: Matrix = [[1, -1, 1, -1], [1, 1, -1, 1]]
SIGNS_X: Matrix = [[-1, 1, 1, 1], [1, 1, 1, 1]]
WITHIN_1_W: Matrix = [[1, 1, 1, 0], [1, 1, 1, 1]]
WITHIN_1_X: Matrix = [[1, 1, 1, 1], [1, 1, 0, 0]]
# tanh of DoReFa's weights
T = [[math.tanh(w) for w in row] for row in W]
TOP = math.tanh(1.2)
STEP_LSQ = 1 / math.sqrt(4 * 3)  # N = 4 features, high = 3


def times(factor: float, matrix: Matrix) -> Matrix:
    return [[factor * v for v in row] for row in matrix]


@dataclass(frozen=True)
class Row:
    """A quantizer and what is known about it."""

    map: str
    golden: Matrix
    gradient: Matrix | None
    params: dict[str, Any] = field(default_factory=dict)
    operand: Operand = "weights"
    state: dict[str, Any] = field(default_factory=dict)  # learned parameters
    parameter_gradients: dict[str, Any] = field(default_factory=dict)
    x: Matrix | None = None
    idempotent: bool = True
    training: bool = True  # whether the golden values are those of training mode

    def quantizer(self, initialized: bool = True) -> Quantizer:
        """Return the quantizer of the row, in training mode."""
        q = build({"map": self.map, **self.params}, self.operand)
        assert isinstance(q, Quantizer)
        if initialized and hasattr(q, "initialize"):
            q.initialize(self.input())
        with torch.no_grad():
            for name, value in self.state.items():
                parameter = getattr(q, name)
                parameter.copy_(torch.as_tensor(value).reshape(parameter.shape))
        return q

    def input(self, dtype: torch.dtype = torch.float64) -> torch.Tensor:
        default = W if self.operand == "weights" else X
        return torch.tensor(default if self.x is None else self.x, dtype=dtype)

    @property
    def stochastic(self) -> bool:
        return self.map.startswith("stochastic")

    @property
    def id(self) -> str:
        own = {k: v for k, v in self.params.items() if not isinstance(v, nn.Module)}
        return "-".join([self.map, self.operand[0], *(f"{k}{v}" for k, v in own.items())])


ROWS = (
    Row("sign", SIGNS_W, WITHIN_1_W),
    Row("sign", SIGNS_X, WITHIN_1_X, operand="activations"),
    Row("sign", [[0.65, -0.65, 0.65, -0.65], [0.375, 0.375, -0.375, 0.375]],
        [[0.65, 0.65, 0.65, 0], [0.375] * 4], {"scale": "channel_mean"}),
    Row("step", [[0, 0, 1, 1], [1, 1, 1, 1]], [[0, 0, 1, 1], [1, 1, 1, 1]], operand="activations"),
    Row("ternary", [[1, -1, 1, -1], [1, 1, -1, 0]], WITHIN_1_W),
    Row("ternary", [[0, 0, 0, 0], [1, 1, 1, 1]], WITHIN_1_X, {"threshold": 0.5},
        operand="activations"),
    # D = 0.7 * 0.5125 = 0.35875, alpha = (0.9 + 0.4 + 1.2 + 0.55 + 0.7) / 5 = 0.75
    Row("twn", [[0.75, -0.75, 0, -0.75], [0, 0.75, -0.75, 0]], times(0.75, WITHIN_1_W),
        idempotent=False),
    Row("twn", [[1, -1, 0, -1], [0, 1, -1, 0]], WITHIN_1_W, {"scale": False}, idempotent=False),
    # by row: D = 0.455 and 0.2625, alpha = 1.05 and 0.625
    Row("twn", [[1.05, 0, 0, -1.05], [0, 0.625, -0.625, 0]],
        [[1.05, 1.05, 1.05, 0], [0.625] * 4], {"granularity": "channel"}, idempotent=False),
    Row("bitnet", times(0.5125, [[1, -1, 0, -1], [0, 1, -1, 0]]), ONES, idempotent=False),
    # s = 1.2 / 7
    Row("uniform", times(1.2 / 7, [[5, -2, 1, -7], [1, 3, -4, 0]]), ONES,
        {"bits": 4, "granularity": "tensor"}),
    Row("uniform", [[0.8, -0.4, 0, -1.2], [0.7 / 3, 1.4 / 3, -0.7, 0]], ONES, {"bits": 3}),
    Row("uniform", [[0.9, -0.3, 0, -1.2], [0.55 / 3, 0.55, -0.7, 0]], ONES,
        {"bits": 3, "group_size": 2}),
    # by group of two: mean|W| = 0.65, 0.65, 0.375, 0.375 in every case but that of the signs
    Row("bitnet", [[0.65, -0.65, 0, -0.65], [0.375, 0.375, -0.375, 0]], ONES,
        {"group_size": 2}, idempotent=False),
    Row("twn", [[0.9, 0, 0, -1.2], [0, 0.55, -0.7, 0]],
        [[0.9, 0.9, 1.2, 0], [0.55, 0.55, 0.7, 0.7]], {"group_size": 2}, idempotent=False),
    Row("ternary", [[0.65, -0.65, 0.65, -0.65], [0.375, 0.375, -0.7, 0]],
        [[0.65, 0.65, 0.65, 0], [0.375, 0.375, 0.7, 0.7]], {"group_size": 2}, idempotent=False),
    Row("uniform", times(0.5125, SIGNS_W), ONES, {"bits": 1, "granularity": "tensor"}),
    # s = 0.7, z = 2: 0.9 lies past the last level
    Row("uniform", times(0.7, [[1, -1, 0, -2], [0, 1, -1, 0]]), [[0, 1, 1, 1], [1, 1, 1, 1]],
        {"bits": 2, "granularity": "tensor", "symmetric": False}, idempotent=False),
    # the running range of the first batch: s = 3.5 / 3, z = 0
    Row("uniform", times(3.5 / 3, [[0, 0, 0, 0], [1, 1, 1, 3]]), [[0, 1, 1, 1], [1, 1, 1, 1]],
        {"bits": 2}, operand="activations"),
    # 0.15 of the largest error at full range: shrinking to 0.9 / 1.2 hits +-0.9 and 0
    Row("uniform", [[0.9, -0.9, 0, 0]], [[1, 1, 1, 1]],
        {"bits": 2, "range": "mse", "granularity": "tensor"}, x=[[0.9, -0.9, 0, 0.1]],
        idempotent=False),
    Row("dorefa", [[0, 0, 1 / 3, 1 / 3], [2 / 3, 1, 1, 1]], [[0, 1, 1, 1], [1, 1, 0, 0]],
        operand="activations"),
    Row("dorefa", [[2 * round(3 * (t / (2 * TOP) + 0.5)) / 3 - 1 for t in row] for row in T],
        [[(1 - t * t) / TOP for t in row] for row in T], idempotent=False),
    Row("dorefa", times(0.5125, SIGNS_W), ONES, {"bits": 1}),
    Row("pact", [[0, 0, 1 / 3, 1 / 3], [2 / 3, 1, 1, 1]], [[0, 0, 1, 1], [1, 0, 0, 0]],
        {"bits": 2, "alpha": 1.0}, operand="activations", parameter_gradients={"alpha": 3.0}),
    Row("lsq", [[-0.6, 0, 0.3, 0.3], [0.9, 0.9, 0.9, 0.9]], [[1, 1, 1, 1], [1, 0, 0, 0]],
        {"bits": 3}, operand="activations", state={"scale": 0.3},
        # -1/3 + 0 + 1/3 - 1/3 + 1/3 inside, 3 + 3 + 3 beyond the last level
        parameter_gradients={"scale": 9 * STEP_LSQ}),
    Row("lsq", times(0.5125, SIGNS_W), ONES, {"bits": 1},
        parameter_gradients={"scale": 2 / math.sqrt(8)}),
    # offset -0.5 = -1 step: v = (x + 0.5) / 0.5
    Row("lsq_plus", [[-0.5, 0, 0, 0.5], [1, 1, 1, 1]], [[0, 1, 1, 1], [1, 0, 0, 0]],
        {"bits": 2}, operand="activations", state={"scale": 0.5, "offset": -0.5},
        parameter_gradients={"scale": 9.2 * STEP_LSQ, "offset": 4 * STEP_LSQ}),
    Row("lsq_plus", times(0.25, [[3, -2, 0, -4], [1, 2, -3, 0]]), [[0, 1, 1, 0], [1, 1, 1, 1]],
        {"bits": 3}, state={"scale": 0.25, "offset": 0.0}),
    Row("n2uq", [[0, 0, 0, 1 / 3, 2 / 3, 2 / 3, 1, 1, 1, 1, 1]],
        [[0, 0, 1.25, 0.625, 0.625, 0.5 / 1.2, 0.5 / 1.2, 0.5 / 1.2, 0, 0, 0]],
        operand="activations", idempotent=False,
        x=[[-0.5, 0, 0.1, 0.5, 0.8, 1.0, 1.3, 1.6, 1.7, 2, 3]],
        state={"start": 0.1, "widths": [0.4, 0.8, 1.2], "scale_in": 1.5, "scale_out": 0.5},
        parameter_gradients={
            # -(1/3) / a_i for each input inside segment i
            "start": -(1 / 0.4 + 2 / 0.8 + 3 / 1.2) / 3,
            "widths": [
                -(0.05 / 0.4**2 + 2 / 0.8 + 3 / 1.2) / 3,
                -((0.25 + 0.7) / 0.8**2 + 3 / 1.2) / 3,
                -((0.2 + 0.65 + 1.1) / 1.2**2) / 3,
            ],
            "scale_in": (0.1 / 0.4 + 1.3 / 0.8 + 3.9 / 1.2) / 3,
            "scale_out": 2 * (1 / 3 + 2 * 2 / 3 + 5),
        }),
    # S = 1.5 mean|w| = 0.975 and 0.5625
    Row("n2uq_weights", [[0.975, -0.325, 0.325, -0.975], [0.1875, 0.5625, -0.5625, 0.1875]],
        [[1, 1, 1, 0], [1, 1, 0, 1]], idempotent=False),
    Row("n2uq_weights", [[0.65, -0.65, 0.65, -0.65], [0.375, 0.375, -0.375, 0.375]],
        [[0, 1, 1, 0], [1, 0, 0, 1]], {"bits": 1}),
    Row("power_of_two", [[1, -0.5, 0, -1], [0.25, 0.5, -0.5, 0]], WITHIN_1_W, {"bits": 3},
        state={"alpha": 1.0}, parameter_gradients={"alpha": -0.95}),
    Row("power_of_two", [[0, 0, 0.25, 0.5], [1, 1, 1, 1]], [[0, 1, 1, 1], [1, 1, 0, 0]],
        {"bits": 2, "signed": False}, operand="activations", state={"alpha": 1.0}),
    # magnitudes (0, 1, 2, 3, 4, 6, 8, 10) / 10
    Row(
        "apot",
        [[0.8, -0.4, 0.1, -1], [0.2, 0.6, -0.6, 0]],
        WITHIN_1_W,
        {"bits": 4},
        x=[[0.85, -0.4, 0.1, -1.2], [0.2, 0.55, -0.65, 0.04]],
        state={"alpha": 1.0},
    ),
    Row("lsbq", [[0.65, -0.65, 0.65, -0.65], [0.375, 0.375, -0.375, 0.375]], ONES),
    Row("lsbq", [[0.65, -0.65, 0.2, -0.65], [0.375, 0.375, -0.375, 0.1]], ONES, {"rho": 0.5}),
    Row("progressive", [[-1, 0, 0.4, 0.8], [1, 1, 1, 1]], ONES, {"rho": 0.5},
        operand="activations"),
    Row("stochastic_sign", SIGNS_W, WITHIN_1_W, training=False),
    Row("stochastic_uniform", [[0.8, -0.4, 0, -1.2], [0.7 / 3, 1.4 / 3, -0.7, 0]], ONES,
        {"bits": 3}, training=False),
    Row("stochastic_uniform", times(3.5 / 3, [[0, 0, 0, 0], [1, 1, 1, 3]]),
        [[0, 1, 1, 1], [1, 1, 1, 1]], {"bits": 2}, operand="activations", training=False),
    Row("token", [[-0.5, 0, 51 * 0.5 / 127, 102 * 0.5 / 127],
                  [34 * 3 / 127, 42 * 3 / 127, 55 * 3 / 127, 3]], ONES, operand="activations"),
    # mean|v| = 0.738 and 0.688: scales 1 and 1/2; for the gradient see test_binary_weights.py
    Row("libra", [[1, -1, 1, -1], [0.5, 0.5, -0.5, 0.5]], None, idempotent=False),
)  # fmt: skip
