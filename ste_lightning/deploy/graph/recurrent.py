"""Recurrent layers as one operator each while a network is captured.

Torch's own shape rules unroll them, step by step; these know the shapes of the results.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

__all__ = ["NAMES", "WholeRecurrentLayers", "result_shapes"]

NAMES = {"lstm": "lstm.input", "gru": "gru.input", "rnn_tanh": "rnn_tanh.input",
         "rnn_relu": "rnn_relu.input"}  # fmt: skip
_RESULTS = {"lstm": 3, "gru": 2, "rnn_tanh": 2, "rnn_relu": 2}


def result_shapes(
    x: Sequence[Any], states: Sequence[Sequence[Any]], bidirectional: bool
) -> list[list[Any]]:
    """Return the shapes of a recurrent layer's results: all outputs, then the last states."""
    width = states[0][-1] * (2 if bidirectional else 1)
    return [[*x[:-1], width], *[list(state) for state in states]]


def _fake(
    name: str, x: Tensor, states: Sequence[Tensor], bidirectional: bool
) -> tuple[Tensor, ...]:
    shapes = result_shapes(x.shape, [state.shape for state in states], bidirectional)
    return tuple(x.new_empty(shape) for shape in shapes[: _RESULTS[name]])


def _define(name: str) -> None:
    whole = f"ste_lightning::whole_{name}"
    states = "Tensor[] hx" if name == "lstm" else "Tensor hx"
    returned = ", ".join(["Tensor"] * _RESULTS[name])
    flags = "bool biases, int layers, float dropout, bool train, bool bidirectional, bool first"
    torch.library.define(whole, f"(Tensor x, {states}, Tensor[] params, {flags}) -> ({returned})")

    def compute(x: Tensor, hx: Any, *rest: Any) -> Any:
        return getattr(torch, name)(x, hx, *rest)

    def fake(
        x: Tensor, hx: Any, params: Any, b: bool, layers: int, p: float, train: bool, both: bool,
        first: bool,
    ) -> Any:  # fmt: skip
        return _fake(name, x, list(hx) if name == "lstm" else [hx], both)

    torch.library.impl(whole, "default", compute)
    torch.library.register_fake(whole, fake)


for _name in NAMES:
    _define(_name)


class WholeRecurrentLayers(TorchFunctionMode):
    """Inside, recurrent layers of padded sequences are one operator each."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call a function, or the operator in its place."""
        name = getattr(func, "__name__", "")
        padded = len(args) == 9 and isinstance(args[3], bool)
        if name in NAMES and padded and func is getattr(torch, name):
            x, hx, params, *rest = args
            operator = getattr(torch.ops.ste_lightning, f"whole_{name}")
            return operator(x, list(hx) if name == "lstm" else hx, list(params), *rest)
        return func(*args, **(kwargs or {}))
